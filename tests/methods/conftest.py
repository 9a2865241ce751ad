from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from asyncsim.scenario import Document, Scenario, build_scenario

DIGITS = {"kind": "digits", "model": {"kind": "mlp", "hidden": [16]}, "batch": 8}
"""64-16-10, 1,210 parameters."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """A run uses one thread; what a test computes beside it must not use more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def make() -> Callable[..., Scenario]:
    """``make(workers=6, method=..., ...)``: a small scenario on the digits, 200 updates, evaluated at the ends only, by the
    reference engine (others may differ in the last bits)."""

    def make(workers: int = 6, compute: Any = None, **sections: Any) -> Scenario:
        cluster = {"workers": workers} | ({} if compute is None else {"compute": compute})
        run = {"run": {"updates": 200}, "evaluate": {"updates": 100_000}, "engine": "serial"}
        return build_scenario(Document({"task": DIGITS, "cluster": cluster} | run | sections, "test"))

    return make
