"""Continuous time: the Lambert W function, constant, gamma and arbitrary delays; each formula with a wrong one beside it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import special

from asyncsim.theory import (
    best_step,
    best_workers,
    delay_rate,
    delay_variance,
    fleet_rate,
    gamma_fastest,
    gamma_limit,
    gamma_rate,
    lambert_w,
    memoryless_limit,
    most_workers,
    random_delay_limit,
    random_delay_rate,
    turns_rate,
    update_rate,
)  # fmt: skip

TABLE = {0.05: 0.0527, 0.1: 0.1118, 0.2: 0.2592, 0.5: 0.794, 1.0: 0.318, 1.4: 0.0817, 1.7: -0.056}
"""Rates over mu of the equation x' = -N mu eta h x(t - 1/mu), by X = N eta h."""


def test_lambert_w_is_that_of_scipy():
    """Random points of all sizes, the negative axis where branches meet, and the circle around the branch point."""
    rng = np.random.default_rng(0)
    points = (rng.normal(size=4000) + 1j * rng.normal(size=4000)) * 10 ** rng.uniform(-6, 6, 4000)
    around = -math.exp(-1) + 0.05 * np.exp(2j * math.pi * np.arange(64) / 64)
    for z in [*points, *np.linspace(-8, -0.01, 101), *around]:
        for branch in (-2, -1, 0, 1):
            assert lambert_w(z, branch) == pytest.approx(complex(special.lambertw(z, branch)), rel=1e-12, abs=1e-14)


@pytest.mark.parametrize("offset", [0.0, 1e-14, 1e-9, -1e-9, -1e-14, 1e-5j])
def test_lambert_w_solves_its_equation_at_the_branch_point(offset):
    """There SciPy itself is off by 1e-6 on branch -1; the equation decides."""
    z = -math.exp(-1) + offset
    for branch in (0, -1):
        w = lambert_w(z, branch)
        assert w * np.exp(w) == pytest.approx(z, abs=1e-16)


@pytest.mark.parametrize(("x", "rate"), TABLE.items())
def test_the_rate_of_a_constant_delay(x, rate):
    """To the digits of the reference's table. Without the delay the rate would be X, which differs."""
    assert delay_rate(x) == pytest.approx(rate, abs=6e-5 if rate in (0.0527, 0.1118, 0.2592, 0.0817) else 6e-4)
    assert x != pytest.approx(rate, abs=2e-3)


def test_extremes_of_a_constant_delay():
    assert delay_rate(0) == 0
    assert delay_rate(math.exp(-1)) == pytest.approx(1, abs=1e-7)
    assert delay_rate(math.pi / 2) == pytest.approx(0, abs=1e-12)
    best = max(np.linspace(0.2, 0.6, 4001), key=delay_rate)
    assert best == pytest.approx(math.exp(-1), abs=2e-4)


def test_the_variance_of_a_constant_delay_is_that_of_a_simulated_equation():
    """Euler steps of 0.01, 2,000 paths: 0.948 for a = 1, tau = 0.6, b = 1 within 2 %. Wrong: b^2 / 2a."""
    rng = np.random.default_rng(1)
    dt, lag = 0.01, 60
    x = np.zeros((lag + 1, 2000))
    squares = []
    for step in range(8_000):
        now = x[step % (lag + 1)] - dt * x[(step + 1) % (lag + 1)] + math.sqrt(dt) * rng.normal(size=2000)
        x[(step + 1) % (lag + 1)] = now
        if step > 2000 and step % 50 == 0:
            squares.append(now**2)
    found = float(np.mean(squares))
    assert delay_variance(1.0, 0.6, 1.0) == pytest.approx(0.948, abs=6e-4)
    assert found == pytest.approx(delay_variance(1.0, 0.6, 1.0), rel=0.02)
    assert found != pytest.approx(0.5, rel=0.5)
    assert delay_variance(2.0, 0.0, 3.0) == 9 / 4


@pytest.mark.parametrize("shape", [1, 2, 3, 4, 10])
@pytest.mark.parametrize("x", [0.05, 0.2, 0.3, 0.5, 1.0, 1.5, 3.0])
def test_gamma_delays_against_all_roots_of_the_polynomial(shape, x):
    """For a whole shape k, ``s (1 + s / k)^k + X`` is a polynomial. Wrong: a constant delay of the same mean."""
    roots = (np.poly1d([1 / shape, 1]) ** shape * np.poly1d([1, 0]) + x).roots
    assert gamma_rate(x, shape**-0.5) == pytest.approx(-roots.real.max(), abs=2e-6)
    if x > 0.1:
        assert delay_rate(x) != pytest.approx(-roots.real.max(), abs=1e-3)


@pytest.mark.parametrize(("shape", "limit"), {2: 4.0, 3: 2.667, 4: 2.274, 10: 1.793, 100: 1.590}.items())
def test_limits_of_gamma_delays(shape, limit):
    """The table of the reference; the rate changes its sign there. Wrong: pi / 2 for all of them."""
    cv = shape**-0.5
    assert gamma_limit(cv) == pytest.approx(limit, abs=6e-4)
    assert gamma_rate(gamma_limit(cv) * 0.999, cv) > 0 > gamma_rate(gamma_limit(cv) * 1.001, cv)
    assert gamma_limit(cv) > math.pi / 2 + 0.01


@pytest.mark.parametrize("cv", [0.05, 0.3, 0.5, 1.0])
def test_the_fastest_step_of_gamma_delays(cv):
    shape = 1 / cv**2
    fastest = gamma_fastest(cv)
    assert gamma_rate(fastest, cv) == pytest.approx(shape / (shape + 1), rel=1e-6)
    assert max(gamma_rate(fastest * f, cv) for f in (0.5, 0.9, 0.99)) < shape / (shape + 1)
    assert gamma_rate(fastest * 1.5, cv) <= shape / (shape + 1) + 1e-9


def test_exponential_delays_in_closed_form():
    """``(1 - sqrt(1 - 4 X)) / 2``, then 1/2; the mean is stable for every X. Wrong: beyond 1/4 the same square root."""
    for x in (0.01, 0.1, 0.2, 0.24):
        assert gamma_rate(x, 1.0) == pytest.approx((1 - math.sqrt(1 - 4 * x)) / 2, rel=1e-9)
    for x in (0.3, 1.0, 50.0):
        assert gamma_rate(x, 1.0) == pytest.approx(0.5, rel=1e-9)
    assert gamma_limit(1.0) == math.inf


def test_delays_from_a_list():
    """One value is the constant delay; two are solved by hand; many gamma quantiles come near to the gamma delay."""
    assert random_delay_limit([0.5]) == pytest.approx(math.pi, rel=1e-9)
    for x in (0.05, 0.2, 0.5, 1.0, 1.7):
        assert random_delay_rate(x / 0.5, [0.5]) == pytest.approx(delay_rate(x) / 0.5, abs=1e-7)
    # delays 1 and 3 alike: on the imaginary axis cos w + cos 3w = 0 at w = pi / 4, so a = w / ((sin w + sin 3w) / 2)
    assert random_delay_limit([1.0, 3.0]) == pytest.approx(math.pi / 4 / math.sin(math.pi / 4), rel=1e-9)
    assert random_delay_limit([1.0, 3.0]) != pytest.approx(math.pi / 4, rel=0.3)  # wrong: the mean delay
    quantiles = special.gammaincinv(4, (np.arange(150) + 0.5) / 150) / 4
    assert random_delay_limit(quantiles) == pytest.approx(gamma_limit(0.5), rel=0.01)
    assert random_delay_rate(0.2, quantiles) == pytest.approx(gamma_rate(0.2, 0.5), rel=5e-3)
    uneven = [random_delay_limit([1.0, 3.0], shares) for shares in ([0.9, 0.1], [0.5, 0.5])]
    assert uneven[0] > uneven[1]


@pytest.mark.parametrize(
    ("x", "rates"), [(0.1, [0.1101, 0.1114, 0.1117, 0.1118]), (0.5, [1.018, 0.842, 0.806, 0.797])]
)
def test_taking_turns_goes_to_the_constant_delay(x, rates):
    """The reference's rates times N for N = 4, 16, 64, 256; those of all roots of the recurrence agree."""
    found = [n * turns_rate(x / n, n) for n in (4, 16, 64, 256)]
    assert found == pytest.approx(rates, abs=6e-4 if x > 0.2 else 6e-5)
    assert [n * update_rate(x / n, n - 1) for n in (4, 16, 64, 256)] == pytest.approx(found, rel=1e-6)
    assert 10_000 * turns_rate(x / 10_000, 10_000) == pytest.approx(delay_rate(x), rel=1e-3)


@pytest.mark.parametrize("cv", [0.0, 1.0, 0.5])
def test_the_best_number_of_workers_is_that_of_a_plain_search(cv):
    step = 0.01
    rates = [fleet_rate(step, n, cv) for n in range(1, 120)]
    best = best_workers(step, 1.0, cv)
    assert rates[best.workers - 1] == pytest.approx(max(rates), rel=1e-9)
    assert best.rate == rates[best.workers - 1]
    assert best.workers == pytest.approx(gamma_fastest(cv) / step, abs=2)
    assert best.rate > 1.9 * best.workers * best.alone  # stale gradients help there: wrong is N times one worker


def test_the_largest_number_of_workers():
    """The step is stable with that many and not with one more. Wrong: the best number."""
    for step in (0.05, 0.3, 1.9):
        most = most_workers(step, 1.0)
        assert turns_rate(step, most) > 0 > turns_rate(step, most + 1)
        assert memoryless_limit(most_workers(step, 1.0, 1.0)) > step > memoryless_limit(most_workers(step, 1.0, 1.0) + 1)
    assert most_workers(2.5, 1.0) == 0
    assert most_workers(0.01, 2.0, 0.5) == int(gamma_limit(0.5) / 0.02)
    assert most_workers(0.01, 1.0) > 4 * best_workers(0.01, 1.0).workers


def test_several_curvatures_are_balanced():
    """At the best step the flattest and the steepest direction converge equally fast; N rises and falls around its best."""
    curvatures = (0.1, 0.5, 1.0)
    step = best_step(16, curvatures)
    assert fleet_rate(step * 0.1, 16) == pytest.approx(fleet_rate(step, 16), rel=1e-6)
    best = best_workers(0.01, curvatures)
    slowest = [min(fleet_rate(0.01 * h, n) for h in curvatures) for n in range(1, 200)]
    assert best.workers == 1 + int(np.argmax(slowest))
    assert best.workers > 2 * best_workers(0.01, 1.0).workers  # wrong: the steepest alone
    assert best_step(400, 2.0) == pytest.approx(1 / (math.e * 400 * 2.0), rel=5e-3)
