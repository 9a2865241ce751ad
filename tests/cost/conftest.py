from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asyncsim.scenario import Document, Scenario, build_scenario

MACHINE = {"price": "3.6/h", "idle": "10W", "busy": "110W"}
"""A tenth of a cent each second, and figures that can be added in one's head."""


@pytest.fixture(scope="session")
def make() -> Callable[..., Scenario]:
    """``make(cluster, run, ...)``: a quadratic on one worker with a second a gradient, unless ``cluster`` says otherwise."""

    def make(cluster: dict[str, Any] | None = None, run: dict[str, Any] | None = None, **sections: Any) -> Scenario:
        fleet = {"compute": "1s", "instance": MACHINE, **(cluster or {})}
        if "groups" not in fleet:
            fleet.setdefault("workers", 1)
        base = {
            "task": {"kind": "quadratic", "dim": 2}, "cluster": fleet, "run": run or {"time": "10s"},
            "optimizer": {"kind": "sgd", "lr": 0.01}, "engine": "serial",
        }  # fmt: skip
        return build_scenario(Document(base | sections, "test"))

    return make
