from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncsim.scenario import Document, Scenario, build_scenario

sys.path.append(str(Path(__file__).parents[1] / "policies"))
from arrivals import View, push

DIGITS = {"kind": "digits", "model": {"kind": "mlp", "hidden": [16]}, "batch": 8}
"""64-16-10, 1,210 parameters."""


@pytest.fixture(autouse=True)
def _one_thread(one_thread: None) -> None:
    """For every test of methods: plain loops stand beside the runs."""


@pytest.fixture
def make() -> Callable[..., Scenario]:
    """``make(workers=6, method=..., ...)``: a small scenario on the digits, 200 updates, evaluated at the ends only, by the
    reference engine (others may differ in the last bits)."""

    def make(workers: int = 6, compute: Any = None, **sections: Any) -> Scenario:
        cluster = {"workers": workers} | ({} if compute is None else {"compute": compute})
        run = {"run": {"updates": 200}, "evaluate": {"updates": 100_000}, "engine": "serial"}
        return build_scenario(Document({"task": DIGITS, "cluster": cluster} | run | sections, "test"))

    return make


@pytest.fixture
def arrive() -> Callable[..., Any]:
    """``arrive(transform, state, gradient, ...)``: what a transform makes of one gradient, given two layers of equal size and
    other fields of the server's view."""

    def arrive(transform: Any, state: Any, gradient: Any, worker: int = 0, step: int = 0, **view: Any) -> Any:
        half = len(gradient) // 2
        server = View(None, layers=(slice(0, half), slice(half, len(gradient))), **view)
        sent = push(gradient, None, worker=worker)
        sent.step = step
        return transform.update(sent, state, server).gradient

    return arrive
