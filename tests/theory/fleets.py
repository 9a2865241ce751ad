"""Real runs on the quadratic task, and a plain loop beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

import asyncsim
from asyncsim.scenario import Document, build_scenario


def scenario(workers: int, lr: float, updates: int, compute: Any = "1s", **changes: Any) -> asyncsim.Scenario:
    """One coordinate of curvature 1, from 1, in float64. ``changes`` are sections; ``optimizer`` and ``task`` add to theirs."""
    document = {
        "name": "quadratic", "dtype": "float64",
        "task": {"kind": "quadratic", "dim": 1} | changes.pop("task", {}),
        "cluster": {"workers": workers, "compute": compute},
        "optimizer": {"kind": "sgd", "lr": lr} | changes.pop("optimizer", {}),
        "run": {"updates": updates}, "records": {"events": False},
        "evaluate": {"updates": max(1, updates // 10), "splits": ["test"]},
    }  # fmt: skip
    return build_scenario(Document(document | changes, "test"))


def distances(*arguments: Any, **changes: Any) -> np.ndarray:
    """``|x|`` at each evaluation of a run, the start first; infinite at the end of a run that diverged."""
    result = asyncsim.simulate(scenario(*arguments, **changes))
    found = result.metrics["test_distance"].to_numpy(dtype=float)
    return np.append(found, np.inf) if result.summary["status"] == "diverged" else found


def loop(order: np.ndarray, workers: int, a: float) -> np.ndarray:
    """x after each update, worker ``order[k]`` pushing the gradient at its snapshot: ``(len(order) + 1,)``."""
    x, snapshots, path = 1.0, np.ones(workers), [1.0]
    for worker in order:
        x -= a * snapshots[worker]
        snapshots[worker] = x
        path.append(x)
    return np.array(path)
