"""Figures, drawn from records alone. Every function takes results (and ``ax``) and returns the axes."""

from asyncsim.plots.convergence import convergence
from asyncsim.plots.figures import write_figures
from asyncsim.plots.gantt import gantt
from asyncsim.plots.staleness import staleness_histogram

__all__ = ["convergence", "gantt", "staleness_histogram", "write_figures"]
