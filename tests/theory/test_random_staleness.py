"""Integer staleness: limits, moments and variances against tables, all roots, iterated moments and plain loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from fleets import loop

from asyncsim.theory import (
    constant_staleness_limit,
    critical_step,
    gamma_staleness,
    mean_limit,
    mean_path,
    memoryless_limit,
    memoryless_rate,
    memoryless_staleness,
    memoryless_variance,
    noise_path,
    spectral_radius,
    stable_step,
    stationary_variance,
    update_rate,
)  # fmt: skip

LIMITS = {1: 2.0, 2: 1.0, 3: 0.618034, 4: 0.445042, 8: 0.209057, 16: 0.101298, 32: 0.049861}
"""Largest stable eta h of plain asynchronous SGD by the number of workers that take turns."""
MIXED = (0.1, 0.2, 0.0, 0.4, 0.3)


@pytest.mark.parametrize(("workers", "limit"), LIMITS.items())
def test_limits_of_constant_staleness(workers, limit):
    """Table, closed form, and the search over the circle agree, and the radius of all roots is 1 there. Wrong: pi / 2 N, the
    limit in continuous time."""
    assert constant_staleness_limit(workers - 1) == pytest.approx(limit, abs=5e-7)
    assert mean_limit(workers - 1) == pytest.approx(constant_staleness_limit(workers - 1), rel=1e-9)
    assert stable_step(workers - 1) == mean_limit(workers - 1)
    assert spectral_radius(mean_limit(workers - 1), workers - 1) == pytest.approx(1, abs=1e-9)
    assert math.pi / 2 / workers != pytest.approx(limit, rel=0.01)


@pytest.mark.parametrize(
    ("nesterov", "limits"),
    [(False, {0: 3.8, 1: 0.1, 4: 0.0265, 8: 0.0139}), (True, {0: 1.357, 1: 0.253, 4: 0.0327, 8: 0.0154})],
)
def test_limits_with_momentum(nesterov, limits):
    """The reference's table for momentum 0.9. Wrong: the plain limit times one minus the momentum."""
    for staleness, limit in limits.items():
        found = mean_limit(staleness, 0.9, nesterov)
        assert found == pytest.approx(limit, abs=6e-4 if staleness < 2 else 6e-5)
        radii = [spectral_radius(found * f, staleness, 0.9, nesterov) for f in (0.999, 1.001)]
        assert radii[0] < 1 < radii[1]
        if staleness != 1 or nesterov:  # there the two happen to be equal
            assert found != pytest.approx(0.1 * constant_staleness_limit(staleness), rel=0.05)


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.6, False), (0.6, True)])
@pytest.mark.parametrize("shares", [MIXED, (0.5, 0.5), (0.0, 0.0, 0.7, 0.3)])
def test_limits_of_the_mean_against_all_roots(shares, momentum, nesterov):
    limit = mean_limit(shares, momentum, nesterov)
    radii = [spectral_radius(limit * share, shares, momentum, nesterov) for share in (0.1, 0.5, 0.999, 1.001)]
    assert max(radii[:3]) < 1 < radii[3]


def moments(a: float, shares: np.ndarray, m: float, nesterov: bool) -> np.ndarray:
    """The matrix of second moments of (x_k, ..., x_(k-T), the last direction), staleness drawn anew for each update: the mean of
    the Kronecker square of the step's matrix over the draws."""
    size = len(shares) + 1
    total = np.zeros((size**2, size**2))
    for staleness, share in enumerate(shares):
        step = np.zeros((size, size))
        direction = np.zeros(size)
        direction[-1] = m
        direction[staleness] += 1
        step[0] = -a * direction * (m if nesterov else 1)
        if nesterov:
            step[0, staleness] -= a
        step[0, 0] += 1
        for place in range(1, size - 1):
            step[place, place - 1] = 1
        step[-1] = direction
        total += share * np.kron(step, step)
    return total


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.6, False), (0.6, True)])
@pytest.mark.parametrize("shares", [MIXED, (0.5, 0.5)])
def test_mean_squares_against_their_whole_matrix(shares, momentum, nesterov):
    """Limit and variance in the long run, from the matrix of all second moments. Wrong: what ignores that staleness is random
    (the limit of the mean; the variance for the mean of the gradients)."""
    shares = np.array(shares)
    limit = stable_step(shares, momentum=momentum, nesterov=nesterov)
    radii = [np.abs(np.linalg.eigvals(moments(limit * f, shares, momentum, nesterov))).max() for f in (0.999, 1.001)]
    assert radii[0] < 1 < radii[1]
    assert limit < 0.98 * mean_limit(shares, momentum, nesterov)
    a, size = limit * 0.6, len(shares) + 1
    kick = np.zeros(size)  # what noise of 1 in a gradient does to x and to the direction
    kick[0], kick[-1] = -a * (1 + momentum if nesterov else 1.0), 1.0
    matrix = moments(a, shares, momentum, nesterov)
    exact = np.linalg.solve(np.eye(size**2) - matrix, np.kron(kick, kick))[0]
    found = stationary_variance(a, shares, noise=1.0, momentum=momentum, nesterov=nesterov)
    assert found == pytest.approx(exact, rel=1e-8)
    assert noise_path(a, shares, 3000, 1.0, momentum=momentum, nesterov=nesterov)[-1] < 0.97 * exact


def test_variances_of_constant_staleness():
    """Without staleness in closed form; with it against the impulse response. Curvature and noise scale as they must."""
    assert stationary_variance(0.5, 0, 1.0) == pytest.approx(0.5 / 1.5, rel=1e-12)
    assert stationary_variance(0.1, 7, 1.0) == pytest.approx(noise_path(0.1, 7, 4000, 1.0)[-1], rel=1e-9)
    assert stationary_variance(0.02, 7, 3.0, curvature=5.0) == pytest.approx(stationary_variance(0.1, 7, 0.6), rel=1e-12)
    assert stationary_variance(0.1, 7, 1.0) > 1.5 * stationary_variance(0.1, 0, 1.0)  # wrong: no staleness


def test_the_path_of_the_mean_is_the_loop():
    """One staleness: bit for bit the workers that take turns. A distribution: the mean of many loops within 4 standard errors."""
    path = mean_path(0.15, 3, 200)
    assert path == pytest.approx(loop(np.arange(200) % 4, 4, 0.15), abs=1e-13)
    momentum = mean_path(0.05, 2, 50, momentum=0.5, nesterov=True)
    x, v = [1.0], 0.0
    for k in range(50):
        g = x[max(0, k - 2)]
        v = 0.5 * v + g
        x.append(x[-1] - 0.05 * (g + 0.5 * v))
    assert momentum == pytest.approx(x, abs=1e-14)


@pytest.mark.parametrize("workers", [2, 8])
def test_memoryless_workers_against_plain_loops(workers):
    """Mean and mean square of 4,000 loops, within 4 standard errors, and the variance in the long run. Wrong: independent draws
    of the same staleness, which are near but not equal (in the variance by 4 standard errors at 8 workers and a large step)."""
    rng = np.random.default_rng(workers)
    a, runs, updates = 0.6 * memoryless_limit(workers), 4000, 60 * workers
    x, s = np.zeros(runs), np.zeros((runs, workers))
    everyone = np.arange(runs)
    squares = []
    for k in range(updates):
        i = rng.integers(workers, size=runs)
        x = x - a * (s[everyone, i] + rng.normal(size=runs))
        s[everyone, i] = x
        if k >= updates // 2:
            squares.append(x**2)
    each = np.mean(squares, axis=0)
    error = each.std() / math.sqrt(runs)
    exact = memoryless_variance(a, workers, 1.0)
    assert each.mean() == pytest.approx(exact, abs=4 * error)
    independent = stationary_variance(a, memoryless_staleness([1.0] * workers), 1.0)
    assert abs(each.mean() - independent) > 4 * error
    assert independent == pytest.approx(exact, rel=0.35)


def test_memoryless_workers_in_closed_form():
    """The mean is that of geometric staleness; with one worker all is plain SGD; with many the rate is that of exponential
    delays."""
    for workers in (2, 5):
        law = memoryless_staleness([1.0] * workers, tail=1e-15)
        assert memoryless_rate(0.1, workers) == pytest.approx(update_rate(0.1, law), rel=1e-6)
    assert memoryless_limit(1) == 2
    assert memoryless_variance(0.5, 1, 1.0) == pytest.approx(stationary_variance(0.5, 0, 1.0), rel=1e-12)
    assert memoryless_rate(0.5, 1) == pytest.approx(math.log(2), rel=1e-12)
    assert 4096 * memoryless_rate(0.1 / 4096, 4096) == pytest.approx((1 - math.sqrt(0.6)) / 2, rel=1e-3)
    for workers in (2, 8, 32):
        limit = stable_step(memoryless_staleness([1.0] * workers))
        assert 0.85 < limit / memoryless_limit(workers) < 1
        assert constant_staleness_limit(workers - 1) < limit < 4 * workers - 2


def test_critical_steps():
    for staleness in (1, 3, 10):
        best = critical_step(staleness)
        assert spectral_radius(best, staleness) == pytest.approx(staleness / (staleness + 1), abs=1e-6)
        assert min(spectral_radius(best * f, staleness) for f in (0.9, 1.1)) > staleness / (staleness + 1)


def test_regular_staleness_is_least_stable_at_equal_mean():
    limits = [stable_step(gamma_staleness(8, cv)) for cv in (0.0, 0.1, 0.3, 0.5, 1.0)]
    assert limits == sorted(limits)
    assert limits[0] == pytest.approx(constant_staleness_limit(7), rel=1e-9)


def test_weights_by_staleness():
    """One staleness: the limit divided by the weight, the variance of a smaller step. A distribution: the whole matrix of second
    moments, each draw with its weight. Wrong: one mean weight for all."""
    assert mean_limit(7, weights=1 / np.maximum(1, np.arange(8))) == pytest.approx(1.463398, abs=1e-6)
    assert stationary_variance(0.4, 3, 1.0, weights=[1.0, 1.0, 0.5, 0.25]) == pytest.approx(
        stationary_variance(0.1, 3, 1.0), rel=1e-12
    )
    shares, weights = np.array(MIXED), np.array([1.0, 1.0, 0.5, 0.3, 0.2])
    limit = stable_step(shares, weights=weights)

    def square(a: float) -> np.ndarray:
        size = len(shares)
        total = np.zeros((size**2, size**2))
        for staleness, (share, weight) in enumerate(zip(shares, weights, strict=True)):
            step = np.eye(size, k=-1)
            step[0, 0] = 1
            step[0, staleness] -= a * weight
            total += share * np.kron(step, step)
        return total

    assert [np.abs(np.linalg.eigvals(square(limit * f))).max() > 1 for f in (0.999, 1.001)] == [False, True]
    a = limit / 2
    kick = np.zeros(len(shares) ** 2)
    kick[0] = a**2 * float(shares @ weights**2)
    exact = np.linalg.solve(np.eye(len(kick)) - square(a), kick)[0]
    assert stationary_variance(a, shares, 1.0, weights=weights) == pytest.approx(exact, rel=1e-9)
    mean = float(shares @ weights)
    assert stationary_variance(a * mean, shares, 1.0) != pytest.approx(exact, rel=0.05)
    path = mean_path(a, shares, 3, weights=weights)
    assert path[1] == pytest.approx(1 - a * mean, rel=1e-12)
