"""The accountant against the exact privacy of normal noise."""

from __future__ import annotations

import math

import pytest
from scipy import optimize
from scipy.stats import norm

from asyncsim.theory import zcdp_epsilon, zcdp_rho, zcdp_sigma


def exact_epsilon(sigma: float, steps: int, delta: float) -> float:
    """Sums of normal noise compose to one of deviation ``sigma / sqrt(T)``, whose delta is known exactly: B. Balle, Y.-X. Wang,
    "Improving the Gaussian mechanism for differential privacy", ICML 2018, theorem 8."""
    s = sigma / math.sqrt(steps)

    def excess(epsilon: float) -> float:
        return norm.cdf(0.5 / s - epsilon * s) - math.exp(epsilon) * norm.cdf(-0.5 / s - epsilon * s) - delta

    return optimize.brentq(excess, 0, 200)


@pytest.mark.parametrize("sigma", [0.8, 4.0, 30.0])
@pytest.mark.parametrize("steps", [1, 100])
@pytest.mark.parametrize("delta", [1e-3, 1e-6])
def test_epsilon_is_an_upper_bound_and_not_far_off(sigma, steps, delta):
    """Exact < tight < standard; the standard one within 60 % above. Wrong: rho = T / sigma^2, beyond that; rho = T / (4
    sigma^2), for which the tight bound is broken; and steps that add up their epsilons."""
    if math.sqrt(steps) / sigma > 13:
        pytest.skip("no privacy is left, and the exact formula overflows")
    exact = exact_epsilon(sigma, steps, delta)
    tight, plain = zcdp_epsilon(sigma, steps, delta, tight=True), zcdp_epsilon(sigma, steps, delta)
    assert exact < tight < plain
    assert tight < 1.25 * exact + 0.05
    assert plain < 1.6 * exact + 0.05 * plain + 0.3
    assert zcdp_epsilon(sigma * math.sqrt(2), steps, delta, tight=True) < exact
    assert zcdp_epsilon(sigma / math.sqrt(2), steps, delta, tight=True) > 1.25 * exact
    if steps > 1:
        assert steps * exact_epsilon(sigma, 1, delta) > 1.6 * plain


def test_known_numbers():
    """rho = 1/32 at delta = 0.001 is 0.6880024554878 with the tight conversion (a test of the library OpenDP)."""
    assert zcdp_rho(4.0, 1) == 1 / 32
    assert zcdp_epsilon(4.0, 1, 1e-3, tight=True) == pytest.approx(0.6880024554878086, rel=1e-12)
    assert zcdp_epsilon(4.0, 1, 1e-3) == pytest.approx(1 / 32 + 2 * math.sqrt(math.log(1000) / 32), rel=1e-14)
    assert zcdp_epsilon(4.0, 1, 0.1508457845622862, tight=True) == pytest.approx(0, abs=1e-9)


def test_only_the_parts_that_a_user_took_count():
    """50 of 1,000 sums cost what 50 sums cost. There is no discount for taking part by chance."""
    assert zcdp_epsilon(5.0, 1000, 1e-5, participations=50) == zcdp_epsilon(5.0, 50, 1e-5)
    assert zcdp_epsilon(5.0, 1000, 1e-5) > 4 * zcdp_epsilon(5.0, 1000, 1e-5, participations=50)


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 8.0])
def test_sigma_is_the_inverse(epsilon):
    sigma = zcdp_sigma(epsilon, 300, 1e-5, participations=40)
    assert zcdp_epsilon(sigma, 300, 1e-5, participations=40) == pytest.approx(epsilon, rel=1e-12)
    assert zcdp_epsilon(sigma * 0.99, 300, 1e-5, participations=40) > epsilon
