"""Figures, drawn from the records of runs alone. Every function takes results, one or many, and ``ax``, and returns the axes."""

from asyncsim.plots.by_stage import by_stage
from asyncsim.plots.convergence import convergence
from asyncsim.plots.figures import write_figures
from asyncsim.plots.fits import fits
from asyncsim.plots.gantt import gantt
from asyncsim.plots.heat_map import heat_map
from asyncsim.plots.kinds import KINDS, figure, register, write_figure
from asyncsim.plots.over_time import gap_distribution, gap_over_time, penalty_over_time, staleness_over_time
from asyncsim.plots.pareto import pareto_front
from asyncsim.plots.remarks import remarks
from asyncsim.plots.runs import find_runs, read_run
from asyncsim.plots.scaling import cost_to_target, energy_to_target, final_metric, speedup, time_to_target
from asyncsim.plots.schedule import schedule
from asyncsim.plots.shares import time_shares
from asyncsim.plots.staleness import staleness_histogram

__all__ = [
    "KINDS", "by_stage", "convergence", "cost_to_target", "energy_to_target", "figure", "final_metric", "find_runs", "fits",
    "gantt", "gap_distribution", "gap_over_time", "heat_map", "pareto_front", "penalty_over_time", "read_run", "register",
    "remarks", "schedule", "speedup", "staleness_histogram", "staleness_over_time", "time_shares", "time_to_target",
    "write_figure", "write_figures",
]  # fmt: skip
