"""Runs that die at a chosen moment, and what resuming them must give."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from interrupting import interrupt

from asyncsim.records import Result
from asyncsim.records.checkpoints import checkpoint_files
from asyncsim.run import execution
from asyncsim.scenario import Document, Scenario, build_scenario


class Killed(BaseException):
    """The process dies here: no last words."""


def made(workers: int = 5, cluster: dict[str, Any] | None = None, **sections: Any) -> Scenario:
    """A small scenario on the digits, 60 updates, heterogeneous workers; a checkpoint every 7 updates."""
    fleet = {"workers": workers, "compute": {"kind": "gamma_heterogeneous", "mean": "1s"}} | (cluster or {})
    base = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}, "batch": 4},
        "cluster": fleet, "run": {"updates": 60}, "evaluate": {"updates": 25}, "engine": "serial", "checkpoint": {"updates": 7},
        "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
    }  # fmt: skip
    return build_scenario(Document(base | sections, "test"))


def kill(scenario: Scenario, out: Path, at: int, error: type[BaseException] = Killed) -> None:
    """Simulate until the ``at``-th arrival, and die before it is applied."""
    with pytest.MonkeyPatch.context() as patch:
        if error is Killed:
            patch.setattr(execution, "_last_words", lambda *_: None)
        interrupt(scenario, out, at - 1, error)


def same(one: Result, other: Result) -> None:
    """Fingerprints, tables, parameters and summary are those of the other run."""
    assert one.fingerprints == other.fingerprints
    assert {**one.summary, "wall_seconds": 0} == {**other.summary, "wall_seconds": 0}
    for table in ("metrics", "updates", "events"):
        assert getattr(one, table).equals(getattr(other, table)), table
    assert (one.parameters == other.parameters).all() or one.summary["status"] == "diverged"


def contents(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def saved(run: Path) -> bool:
    """Is there something to resume from?"""
    return bool(checkpoint_files(run))
