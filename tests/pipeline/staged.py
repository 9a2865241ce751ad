"""Scenarios of whole pipelines on digits, in float64, and what comes of them: what tests beside their own loops share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import asyncsim
from asyncsim.records import Result
from asyncsim.scenario import Scenario


def staged(
    method: Any, optimizer: Any, count: int, updates: int, *, hidden: list[int], batch: int = 16, workers: int | None = None,
    **more: Any,
) -> Scenario:  # fmt: skip
    """A tanh network with ``hidden`` units, cut into equally many layers a stage, on exponential workers."""
    return Scenario.model_validate({
        "name": "staged",
        "task": {"kind": "digits", "batch": batch, "model": {"kind": "mlp", "hidden": hidden, "activation": "tanh"}},
        "cluster": {"workers": workers or count, "compute": {"kind": "exponential", "mean": "1s"}},
        "stages": {"count": count, "split": "layers"}, "method": method, "optimizer": optimizer,
        "run": {"updates": updates}, "dtype": "float64", "evaluate": {"updates": updates},
    } | more)  # fmt: skip


def finished(scenario: Scenario) -> Result:
    """The result of a run that has to come to its end."""
    result = asyncsim.simulate(scenario)
    assert result.summary["status"] == "finished"
    return result


def final(scenario: Scenario) -> Tensor:
    """The parameters at the end, shape ``(P,)``."""
    return torch.from_numpy(finished(scenario).parameters)
