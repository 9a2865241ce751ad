"""Studies: many runs, side by side. Names are imported when they are first used: a plan needs no tables."""

from importlib import import_module
from typing import Any

_HOMES = {
    "simulate_many": "fleet",
    "SweepResult": "result", "load_sweep": "result", "simulate_sweep": "result",
    "Executor": "runner", "Report": "runner", "run_folder": "runner", "simulate_study": "runner",
    "comparison": "table", "runs_table": "table",
}  # fmt: skip

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'asyncsim.sweep' has no attribute {name!r}")
    return getattr(import_module(f"asyncsim.sweep.{_HOMES[name]}"), name)
