"""Studies: many runs, side by side."""

from asyncsim.sweep.fleet import simulate_many
from asyncsim.sweep.runner import Report, run_folder, simulate_study
from asyncsim.sweep.table import comparison

__all__ = ["Report", "comparison", "run_folder", "simulate_many", "simulate_study"]
