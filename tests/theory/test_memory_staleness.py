"""MSPipe's closed forms against a loop over its constraints, in whole numbers."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from asyncsim.theory import memory_period, memory_staleness


def ends(stages: tuple[int, ...], k: int, batches: int) -> tuple[list[int], list[int]]:
    """When training begins and ends for each batch; written from the constraints alone."""
    t1, t2, t3, t4, t5 = stages
    sampled = copied = trained = 0
    written = [0] * batches
    begins, done = [], []
    for i in range(batches):
        sampled += t1
        features = max(sampled, copied) + t2
        copied = max(features, written[i - k] if i >= k else 0) + t3
        begins.append(max(copied, trained))
        trained = begins[-1] + t4
        done.append(trained)
        written[i] = max(trained, written[i - 1] if i else 0) + t5
    return begins, done


def random_stages(seed: int, count: int) -> list[tuple[int, ...]]:
    return [tuple(map(int, row)) for row in np.random.default_rng(seed).integers(1, 12, size=(count, 5))]


def test_the_period_is_exact():
    """300 pipelines, k = 1, 2, 3: the mean over 120 batches late in the run, in fractions, to the last digit of float64. Wrong:
    that the bound k only ever delays a batch by one write."""
    wrong = 0
    for stages in random_stages(0, 300):
        for k in (1, 2, 3):
            _, done = ends(stages, k, 600)
            period = Fraction(done[-1] - done[-121], 120)
            assert float(period) == pytest.approx(memory_period(stages, k), rel=1e-12), (stages, k)
            t1, t2, t3, t4, t5 = stages
            wrong += float(period) != max(t1, t2 + t3, t4, t5, t5 / k)
    assert wrong > 200


def waits(stages: tuple[int, ...], k: int, batches: int = 300) -> bool:
    """Does the bound slow training down, against none?"""
    return ends(stages, k, batches)[1] != ends(stages, batches, batches)[1]


def test_the_smallest_bound():
    """Where training or the copy engine takes longest: with k nothing ever waits, with k - 1 it does. Wrong: one stage fewer in
    the sum. Elsewhere the answer says that it is not proved."""
    proved = wrong = 0
    for stages in random_stages(1, 400):
        found = memory_staleness(stages)
        t1, t2, t3, t4, t5 = stages
        busiest = max(t1, t2 + t3, t4, t5)
        assert found.period == busiest
        assert found.proved == (busiest in (t2 + t3, t4))
        if not found.proved:
            continue
        proved += 1
        assert memory_period(stages, found.k) == busiest
        late = ends(stages, found.k, 300)[1]
        free = ends(stages, 300, 300)[1]
        assert late[-1] - late[-2] == free[-1] - free[-2]
        if found.k > 1:
            assert memory_period(stages, found.k - 1) > busiest
            assert waits(stages, found.k - 1)
        wrong += -(-(t3 + t4) // busiest) != found.k
    assert proved > 200
    assert wrong > 50


def test_equal_stages():
    assert memory_staleness([3.0] * 5) == (2, 6.0, True)
    assert memory_period([3.0] * 5, 1) == 9.0
