from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from asyncsim.scenario import Document, Scenario, build_scenario


@pytest.fixture(scope="session")
def make() -> Callable[..., Scenario]:
    """``make(workers, compute, method, updates=..., ...)``: a small scenario; the task is a quadratic, which costs nothing.

    ``cluster`` is merged into the fleet, any other section replaces the default one. The times of ``exponential`` and so on
    are in seconds, mean 1 unless told otherwise.
    """

    def make(
        workers: int = 4,
        compute: Any = "1s",
        method: Any = "asgd",
        updates: int | None = None,
        cluster: dict[str, Any] | None = None,
        **sections: Any,
    ) -> Scenario:
        length = {} if "run" in sections else {"run": {"updates": updates or 100}}
        base = {
            "task": {"kind": "quadratic", "dim": 2}, "cluster": {"workers": workers, "compute": compute, **(cluster or {})},
            "method": method, "optimizer": {"kind": "sgd", "lr": 0.01}, "engine": "serial",
        }  # fmt: skip
        return build_scenario(Document(base | length | sections, "test"))

    return make
