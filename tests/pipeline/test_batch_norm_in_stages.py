"""Batch norm in stages: evaluations between the forward and the backward pass of a batch leave no trace."""

from __future__ import annotations

import numpy as np
import pytest

import asyncsim
from asyncsim.scenario import Scenario


@pytest.mark.parametrize("batch_norm", ["recalibrate", "running"])
@pytest.mark.parametrize("method", ["bp", "fdg"])
def test_evaluations_under_living_graphs(method, batch_norm):
    """A small convolutional network evaluated every tenth of a batch's time, and once: the same parameters, bit for bit."""
    runs = [
        asyncsim.simulate(Scenario.model_validate({
            "name": "batch norm", "task": {"kind": "mnist5k", "model": "resnet8", "batch": 8, "batch_norm": batch_norm},
            "cluster": {"workers": 2, "compute": "1s"}, "stages": 2, "method": method, "optimizer": {"kind": "sgd", "lr": 0.02},
            "run": {"updates": 4}, "evaluate": {"time": every},
        }))
        for every in ("350ms", "100s")
    ]
    assert len(runs[0].metrics) > len(runs[1].metrics) + 3
    assert np.array_equal(runs[0].parameters, runs[1].parameters)
