"""A short form of docs/validation.md: those laws that few arrivals can tell from their wrong model.

Bounds are 4 standard errors instead of 3, from the means of 20 stretches instead of 40.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from validation import machines, networks, queues, rounds, staleness
from validation.laws import Law, batch_means, check, distance, number_open

BEGINNINGS = (
    "M/D/1: mean wait", "machine repairman: mean wait", "machine repairman: utilisation", "closed processor sharing", "ring",
    "tree", "equal", "unequal", "2-softsync", "1-softsync", "BSP, 8", "K-sync", "backup", "memoryless crashes", "warned lives",
    "two states", "PipeDream",
)  # fmt: skip
ALL = [law for room in (queues, networks, staleness, rounds, machines) for law in room.LAWS]
QUICK = [law for law in ALL if law.name.startswith(BEGINNINGS)]


@pytest.mark.parametrize("law", QUICK, ids=lambda law: law.name)
def test_a_law_holds_and_refuses_a_wrong_model(law: Law):
    outcome = check(law, pushes=5000, batches=20)
    assert outcome.fits(4)
    assert outcome.refused > 4


def test_every_law_is_named_once():
    assert len({law.name for law in ALL}) == len(ALL) >= 15
    assert {name for name in BEGINNINGS for law in QUICK if law.name.startswith(name)} == set(BEGINNINGS)


def test_batch_means_know_what_is_left_to_chance():
    """Of 2,000 standard normals after the start: standard error 1 / sqrt(1900), estimated from 40 means within a third."""
    values = np.random.default_rng(0).normal(size=2000)
    mean, error = batch_means(values)
    assert mean == pytest.approx(values[100:].mean(), abs=1e-3)
    assert error == pytest.approx(1 / math.sqrt(1900), rel=1 / 3)
    assert distance(1.0, 0.0, 1.0) == 0
    assert distance(1.0, 0.0, 1.1) == math.inf
    assert distance(1.0, 0.1, 1.5) == pytest.approx(5, rel=1e-5)


def test_open_spans_are_counted_over_time():
    """[0, 2) and [1, 3): one, two, one, none open."""
    assert number_open(np.array([0, 1]), np.array([2, 3]), 4.0, windows=4).tolist() == [1, 2, 1, 0]
