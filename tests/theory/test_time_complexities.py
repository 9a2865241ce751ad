"""Optimal times, and what a round takes, against searches and real timelines."""

from __future__ import annotations

import numpy as np
import pytest
from fleets import scenario

import asyncsim
from asyncsim.theory import (
    Problem,
    m_synchronous_time,
    optimal_time,
    rennala_batch,
    rennala_bound,
    rennala_round,
    synchronous_time,
)

TIMES = (1.0, 1.5, 2.0, 7.0)
NOISY = Problem(smoothness=2.0, delta=3.0, variance=8.0, epsilon=0.5)


def test_the_optimal_time_is_that_of_a_plain_loop():
    """``min over m`` written out. Wrong: all workers, and the mean of the times in place of the harmonic mean."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        times = rng.uniform(0.1, 10, size=rng.integers(1, 9))
        problem = Problem(*rng.uniform(0.1, 5, size=4))
        ordered, found, arithmetic = sorted(times), [], []
        for m in range(1, len(ordered) + 1):
            steps = problem.smoothness * problem.delta / problem.epsilon
            steps += problem.variance * problem.smoothness * problem.delta / (m * problem.epsilon**2)
            found.append(steps / (sum(1 / h for h in ordered[:m]) / m))
            arithmetic.append(steps * sum(ordered[:m]) / m)
        assert optimal_time(times, problem).seconds == pytest.approx(min(found), rel=1e-12)
        assert optimal_time(times, problem).workers == 1 + int(np.argmin(found))
        if len(ordered) > 1 and np.argmin(found) > 0:
            assert min(arithmetic) > min(found) * (1 + 1e-9)
        best, some, all_ = (time(times, problem).seconds for time in (optimal_time, m_synchronous_time, synchronous_time))
        assert best <= some * (1 + 1e-12) <= all_ * (1 + 1e-12) ** 2


def test_equal_workers_need_no_asynchrony():
    """All three agree. A worker of infinite slowness leaves the optimum where it was, and ruins plain synchrony."""
    assert len({time([2.0] * 5, NOISY).seconds for time in (optimal_time, m_synchronous_time, synchronous_time)}) == 1
    with_straggler = (*TIMES, 1e9)
    assert optimal_time(with_straggler, NOISY) == optimal_time(TIMES, NOISY)
    assert m_synchronous_time(with_straggler, NOISY) == m_synchronous_time(TIMES, NOISY)
    assert synchronous_time(with_straggler, NOISY).seconds > 1e8 * synchronous_time(TIMES, NOISY).seconds / 7


def test_without_noise_the_fastest_worker_is_enough():
    problem = Problem(1.0, 1.0, 0.0, 0.1)
    assert optimal_time(TIMES, problem) == (10.0, 1)
    assert rennala_batch(problem) == 1
    assert rennala_batch(NOISY) == 16


@pytest.mark.parametrize("batch", [1, 4, 9])
def test_a_round_of_rennala_takes_what_the_formula_says(batch):
    """Four constant workers, the real timeline of `rennala`: every update after the same time. Wrong: the batch over the sum
    of the rates, which ignores that gradients are whole."""
    groups = [{"name": f"g{place}", "workers": 1, "compute": f"{time}s"} for place, time in enumerate(TIMES)]
    method = {"kind": "rennala", "batch": batch}
    plan = asyncsim.plan(scenario(4, 0.1, 6, cluster={"groups": groups}, method=method))
    ends = plan.updates.loc[plan.updates["outcome"] == "applied", "time"].to_numpy()
    expected = rennala_round(TIMES, batch)
    assert ends[0] == pytest.approx(expected, abs=1e-9)
    assert expected > batch / sum(1 / time for time in TIMES) * 1.01
    assert expected <= rennala_bound(TIMES, batch)


def test_the_bound_of_a_round_holds_and_is_not_idle():
    """On 300 random fleets; half of it would be broken."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(300):
        times = rng.lognormal(0, 1.5, size=rng.integers(1, 12))
        batch = int(rng.integers(1, 40))
        shares.append(rennala_round(times, batch) / rennala_bound(times, batch))
    assert 0.5 < max(shares) <= 1


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_a_round_of_the_m_fastest_takes_the_time_of_the_mth(m):
    """`k_sync` that cancels the rest, the method that synchronous SGD of the m fastest is. Wrong: the next slower worker."""
    groups = [{"name": f"g{place}", "workers": 1, "compute": f"{time}s"} for place, time in enumerate(TIMES)]
    plan = asyncsim.plan(scenario(4, 0.1, 5, cluster={"groups": groups}, method={"kind": "k_sync", "k": m}))
    ends = plan.updates.loc[plan.updates["outcome"] == "applied", "time"].to_numpy()
    noise_free = Problem(1.0, 1.0, 0.0, 1.0)
    assert np.diff(ends, prepend=0) == pytest.approx(np.full(5, TIMES[m - 1]), abs=1e-9)
    assert synchronous_time(TIMES[:m], noise_free).seconds == TIMES[m - 1]
