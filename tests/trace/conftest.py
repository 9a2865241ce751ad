from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asyncsim.scenario import Document, Scenario, build_scenario


@pytest.fixture
def make(tmp_path) -> Callable[..., Scenario]:
    """``make(cluster={...}, method=..., ...)``: a small scenario on the digits; paths in it are meant from ``tmp_path``."""

    def make(cluster: dict[str, Any] | None = None, **sections: Any) -> Scenario:
        fleet = {"workers": 5, "compute": {"kind": "gamma_heterogeneous", "mean": "1s"}} | (cluster or {})
        base = {"task": {"kind": "digits", "model": "softmax", "batch": 8}, "cluster": fleet, "run": {"updates": 150}}
        return build_scenario(Document(base | sections, "test"), folder=str(tmp_path))

    return make
