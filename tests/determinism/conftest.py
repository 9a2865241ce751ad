from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from on_device import DEVICE

from asyncsim.scenario import Document, Scenario, build_scenario


@pytest.fixture(autouse=True)
def _threads_as_they_were(threads_as_they_were: None) -> None:
    """After every test of this folder."""


@pytest.fixture
def make() -> Callable[..., Scenario]:
    """``make(workers=6, method=..., cluster={...}, ...)``: a small scenario on the digits, 120 updates, heterogeneous workers."""

    def make(workers: int = 6, cluster: dict[str, Any] | None = None, **sections: Any) -> Scenario:
        fleet = {"workers": workers, "compute": {"kind": "gamma_heterogeneous", "mean": "1s"}} | (cluster or {})
        base = {
            "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [16]}, "batch": 8},
            "cluster": fleet, "run": {"updates": 120}, "evaluate": {"updates": 40}, "engine": "serial", "device": DEVICE,
            "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4},
        }  # fmt: skip
        return build_scenario(Document(base | sections, "test"))

    return make
