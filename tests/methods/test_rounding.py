"""Which methods make a difference of one rounding grow: measured, and compared with what they say of themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import asyncsim

TANH = {"kind": "digits", "model": {"kind": "mlp", "hidden": [16], "activation": "tanh"}, "batch": 8}
"""Smooth: no kink is to blame."""
CODE = {"kind": "gap_aware", "step_length": "code"}


def spread(scenario: Any, monkeypatch: pytest.MonkeyPatch) -> float:
    """Relative distance of two runs at their ends; the second starts with every parameter one rounding (2e-16) higher."""
    one = asyncsim.simulate(scenario).parameters
    cls = type(scenario.task.build(0, "cpu", "float64", 1))
    init = cls.init
    monkeypatch.setattr(cls, "init", lambda task: torch.nextafter(init(task), torch.tensor(torch.inf, dtype=torch.float64)))
    other = asyncsim.simulate(scenario).parameters
    return float(np.linalg.norm(one - other) / np.linalg.norm(one))


@pytest.mark.parametrize(
    ("method", "momentum", "grows"),
    [("asgd", 0.0, False), ("gap_aware", 0.0, True), (CODE, 0.0, False), (CODE, 0.9, True),
     ({"kind": "gap_aware", "per": "layer"}, 0.9, False), ("dana_gap_aware", 0.9, True), ("dana", 0.9, False)],
    ids=str,
)  # fmt: skip
def test_what_a_method_says_of_roundings_is_what_it_does(make, monkeypatch, method, momentum, grows):
    """Eight workers, 1,000 updates in float64. Where ``C`` is made of steps that ``G`` has divided, a small ``C`` makes small
    steps and those a smaller ``C``: elementwise the two runs part by a million-fold at least. Else they stay within 1e-12."""
    scenario = make(
        8, task=TANH, method=method, optimizer={"kind": "sgd", "lr": 0.02 if momentum else 0.1, "momentum": momentum},
        run={"updates": 1000}, dtype="float64",
    )  # fmt: skip
    assert scenario.bundle().amplifies_rounding is grows
    distance = spread(scenario, monkeypatch)
    assert distance > 2e-10 if grows else distance < 1e-12


def test_what_happens_on_the_way_counts_too(make):
    """A bundle asks the transforms of the uplink as well."""
    for method in ("powersgd", "qsgd", {"kind": "asgd", "uplink": ["qsgd"]}):
        assert make(2, method=method).bundle().amplifies_rounding, method
    assert not make(2, method="gradient_dropping").bundle().amplifies_rounding
