from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asyncsim.scenario import Document, Scenario, build_scenario

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
