"""Studies: run many scenarios, and put their results into tables."""

from asyncsim.sweep.fleet import simulate_many
from asyncsim.sweep.result import SweepResult, load_sweep, simulate_sweep
from asyncsim.sweep.runner import Executor, Report, run_folder, simulate_study
from asyncsim.sweep.table import comparison, runs_table

__all__ = [
    "Executor",
    "Report",
    "SweepResult",
    "comparison",
    "load_sweep",
    "run_folder",
    "runs_table",
    "simulate_many",
    "simulate_study",
    "simulate_sweep",
]
