"""What decides the bits of a run, beside its scenario."""

from __future__ import annotations

import platform
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

import asyncsim
from asyncsim.checkpoint.loading import data_digest
from asyncsim.scenario import Scenario

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task


def versions() -> dict[str, str]:
    """Versions of what decides the bits."""
    packages = ("simpy", "numpy", "torch")
    return {"asyncsim": asyncsim.__version__, "python": platform.python_version(), **{name: installed(name) for name in packages}}


def identity(scenario: Scenario, task: Task, run_hash: str) -> dict[str, Any]:
    """What must be the same for a checkpoint to give the same bits."""
    engine = scenario.engine_for(task).settings()
    return {
        "scenario": run_hash, "versions": versions(), "machine": platform.machine(), "device": scenario.device.partition(":")[0],
        "engine": engine, "data": data_digest(task),
    }  # fmt: skip
