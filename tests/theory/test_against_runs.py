"""The formulas against real runs of the simulator on the quadratic task, in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fleets import distances, scenario

import asyncsim
from asyncsim.theory import (
    constant_staleness_limit,
    delay_rate,
    gamma_rate,
    gamma_staleness,
    mean_limit,
    mean_path,
    memoryless_limit,
    memoryless_rate,
    memoryless_staleness,
    memoryless_variance,
    stable_step,
    stationary_variance,
    turns_rate,
    update_rate,
)

EXPONENTIAL = {"kind": "exponential", "mean": "1s"}


def gamma(cv: float) -> dict:
    return {"kind": "gamma", "mean": "1s", "cv": cv}


@pytest.mark.parametrize(
    ("workers", "momentum", "nesterov"),
    [
        (1, 0.0, False), (2, 0.0, False), (4, 0.0, False), (8, 0.0, False), (2, 0.9, False), (2, 0.9, True), (5, 0.5, False),
        pytest.param(16, 0.0, False, marks=pytest.mark.slow), pytest.param(8, 0.9, True, marks=pytest.mark.slow),
    ],
)  # fmt: skip
def test_the_largest_stable_step_from_both_sides(workers, momentum, nesterov):
    """Workers take turns. 5 % below the limit a run shrinks, 5 % above it grows, each at the predicted rate (within 10 %,
    from the largest |x| of the second and the fourth quarter). Wrong: the limit of one worker more, and of one fewer."""
    limit = mean_limit(workers - 1, momentum, nesterov)
    assert limit == stable_step(workers - 1, momentum=momentum, nesterov=nesterov)
    for share in (0.95, 1.05):
        rate = update_rate(share * limit, workers - 1, momentum, nesterov)
        assert (rate > 0) == (share < 1)
        quarter = math.ceil(1.5 / abs(rate))
        found = distances(
            workers, share * limit, 4 * quarter, optimizer={"momentum": momentum, "nesterov": nesterov}, evaluate={"updates": 1}
        )
        early, late = found[quarter : 2 * quarter].max(), found[3 * quarter : 4 * quarter].max()
        assert -math.log(late / early) / (2 * quarter) == pytest.approx(rate, rel=0.1)
    for other in (workers + 1, workers - 1):
        if other:
            assert mean_limit(other - 1, momentum, nesterov) != pytest.approx(limit, rel=0.05)


def test_staleness_aware_steps_are_stable_up_to_staleness_times_the_limit():
    """Eight workers in turn divide by their staleness 7, so that eta h may be 1.463. Wrong: the limit of plain steps, which is
    a seventh."""
    limit = 7 * constant_staleness_limit(7)
    assert limit == pytest.approx(1.463398, abs=1e-6)
    below, above = (distances(8, share * limit, 1200, method="staleness_aware")[-1] for share in (0.93, 1.07))
    assert below < 0.05
    assert above > 20


@pytest.mark.parametrize("cv", [0.1, 0.3])
def test_random_staleness_from_both_sides(cv):
    """Eight workers with gamma times: below the mean-square limit of the predicted staleness a run shrinks; above the limit
    of the mean it grows. Wrong: 2 over the curvature, and the limit of constant staleness, above which this run still
    shrinks."""
    law = gamma_staleness(8, cv)
    safe, lost = stable_step(law), mean_limit(law)
    assert constant_staleness_limit(7) < safe < lost < 2
    assert distances(8, 0.94 * safe, 1500, gamma(cv))[-1] < 0.05
    assert distances(8, 1.06 * lost, 1500, gamma(cv))[-1] > 20
    if cv > 0.2:
        assert distances(8, 1.04 * constant_staleness_limit(7), 1500, gamma(cv))[-1] < 0.05


def test_memoryless_workers_grow_long_before_their_mean_does():
    """At 0.8 of the mean-square limit (0.45) a run shrinks; at twice it, it grows, though the mean would shrink up to 30."""
    limit = memoryless_limit(8)
    assert distances(8, 0.8 * limit, 400, EXPONENTIAL)[-1] < 1e-3
    assert distances(8, 2 * limit, 400, EXPONENTIAL)[-1] > 1e3
    assert memoryless_rate(2 * limit, 8) > 0


@pytest.mark.parametrize("x", [0.05, 0.1, 0.2])
def test_the_rate_with_exponential_times(x):
    """32 memoryless workers, eta h = X / 32, mean distance of four seeds between 3 and 10 mean compute times: the rate of the
    delay equation within 5 % (one run is off by 1 %), and the exact path of the mean within 2 %. Wrong: the rate without delay
    (X itself), beyond 5 %; and the path of constant staleness, beyond the 2 %, where that can be told."""
    workers, start, end = 32, 3, 10
    runs = np.array([
        distances(workers, x / workers, end * workers, EXPONENTIAL, seed=seed, evaluate={"updates": workers}) for seed in range(4)
    ])  # fmt: skip
    mean = runs.mean(axis=0)
    rate = -math.log(mean[end] / mean[start]) / (end - start)
    predicted = (1 - math.sqrt(1 - 4 * x)) / 2
    assert predicted == pytest.approx(gamma_rate(x, 1.0), rel=1e-9)
    assert rate == pytest.approx(predicted, rel=0.05)
    exact = mean_path(x / workers, memoryless_staleness([1.0] * workers), end * workers)
    assert mean[1:] == pytest.approx(exact[::workers][1:], rel=0.02)
    if x > 0.1:
        assert rate != pytest.approx(x, rel=0.05)
        turns = mean_path(x / workers, workers - 1, end * workers)
        assert mean[1:] != pytest.approx(turns[::workers][1:], rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [32, 128])
@pytest.mark.parametrize("x", [0.1, 0.2])
def test_the_rate_with_exponential_times_at_length(x, workers):
    """The same for more seeds and workers."""
    runs = np.array([
        distances(workers, x / workers, 10 * workers, EXPONENTIAL, seed=seed, evaluate={"updates": workers}) for seed in range(20)
    ])  # fmt: skip
    mean = runs.mean(axis=0)
    assert -math.log(mean[10] / mean[3]) / 7 == pytest.approx((1 - math.sqrt(1 - 4 * x)) / 2, rel=0.03)


@pytest.mark.parametrize("x", [0.05, 0.1, 0.2])
def test_the_rate_with_constant_times(x):
    """32 workers in turn: the exact rate to 8 digits, that of the delay equation within 5 %. Wrong: that of exponential
    times, and that without delay."""
    found = distances(32, x / 32, 1600, evaluate={"updates": 32})
    rate = -math.log(found[-1] / found[-11]) / 10
    assert rate == pytest.approx(32 * turns_rate(x / 32, 32), rel=1e-8)
    assert rate == pytest.approx(delay_rate(x), rel=0.05)
    assert rate != pytest.approx(x, rel=0.05)
    assert gamma_rate(x, 1.0) != pytest.approx(rate, rel=2e-3)


def test_a_run_is_the_path_of_the_mean():
    """Five workers in turn with momentum: every distance to 1e-12."""
    result = asyncsim.simulate(scenario(5, 0.05, 60, optimizer={"momentum": 0.5}, evaluate={"updates": 1}))
    path = mean_path(0.05, 4, 60, momentum=0.5)
    assert result.metrics["test_distance"].to_numpy() == pytest.approx(np.abs(path), abs=1e-12)


@pytest.mark.parametrize("compute", ["1s", EXPONENTIAL], ids=["turns", "memoryless"])
def test_the_variance_in_the_long_run(compute):
    """200 coordinates with noise of deviation 0.5, from the optimum, four workers, eta h = 0.2: the mean square after 60 updates,
    over the last 120, within 4 standard errors. Wrong: the variance without staleness."""
    dim, step = 200, 0.2
    task = {"dim": dim, "noise": 0.5, "start": 0.0}
    found = distances(4, step, 180, compute, task=task, evaluate={"updates": 1})
    squares = found[-120:] ** 2 / dim
    predicted = stationary_variance(step, 3, 0.5) if compute == "1s" else memoryless_variance(step, 4, 0.5)
    stretches = squares.reshape(6, 20).mean(axis=1)
    error = max(stretches.std(ddof=1) / math.sqrt(6), predicted * math.sqrt(2 / (dim * 6)))
    assert squares.mean() == pytest.approx(predicted, abs=4 * error)
    assert abs(squares.mean() - stationary_variance(step, 0, 0.5)) > 6 * error


@pytest.mark.parametrize(("workers", "cv"), [(8, 0.1), (8, 0.5), (32, 1.0)])
def test_the_law_of_staleness_is_that_of_a_timeline(workers, cv):
    """Half the sum of differences to the predicted probabilities, over 20,000 pushes after the start. Wrong: a Poisson law of the
    same mean, ten times as far away."""
    plan = asyncsim.plan(scenario(workers, 0.1, 22_000, gamma(cv)))
    seen = np.bincount(plan.updates["staleness"].to_numpy()[2000:])
    law = gamma_staleness(workers, cv)
    length = max(len(seen), len(law))
    seen, law = (np.pad(each, (0, length - len(each))) for each in (seen / seen.sum(), law))
    poisson = np.exp([-(workers - 1) + k * math.log(workers - 1) - math.lgamma(k + 1) for k in range(length)])
    assert abs(seen - law).sum() / 2 < 0.03
    assert abs(seen - poisson).sum() / 2 > 0.1


def test_unequal_memoryless_workers():
    """Means 1, 1, 4 s: shares of the pushes by staleness, and the mean, N - 1. Wrong: three equal workers."""
    groups = [{"name": "fast", "workers": 2}, {"name": "slow", "workers": 1, "compute": {"kind": "exponential", "mean": "4s"}}]
    cluster = {"compute": EXPONENTIAL, "groups": groups}
    plan = asyncsim.plan(scenario(3, 0.1, 30_000, cluster=cluster))
    seen = np.bincount(plan.updates["staleness"].to_numpy()[1000:], minlength=20)[:20] / 29_000
    law = memoryless_staleness([1.0, 1.0, 4.0])
    assert float(law @ np.arange(len(law))) == pytest.approx(2, abs=1e-6)
    assert seen == pytest.approx(law[:20], abs=0.01)
    assert seen[:3] != pytest.approx(memoryless_staleness([1.0] * 3)[:3], abs=0.02)
