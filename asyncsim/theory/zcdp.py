"""An accountant of zero-concentrated differential privacy for training with clipped, noisy updates.

Each update adds normal noise of deviation ``sigma`` times the norm to which one user's contribution is clipped (``sigma`` is
the noise multiplier) to a sum over users. A user who takes part in T sums has lost ``rho = T / (2 sigma^2)`` zCDP; what is
done with the noisy sums afterwards (momentum, averages) costs nothing. Neighbours differ by one user's presence.

Sources: M. Bun, T. Steinke, "Concentrated differential privacy", TCC 2016 (arXiv 1605.02065), prop. 1.3, 1.6, lemma 1.7; the
tighter conversion: C. Canonne, G. Kamath, T. Steinke, "The discrete Gaussian for differential privacy", 2020 (arXiv
2004.00010), prop. 12 (numbers of both recalled).

**What is not included.** No amplification by subsampling: zCDP has none in general, so a user who takes part by chance is
charged for each part taken, and ``participations`` must be a bound that is known to hold. No amplification by shuffling or by
iteration, no group privacy, no floating-point effects of the noise, no cost of choosing hyper-parameters on the same data.
"""

from __future__ import annotations

import math

from asyncsim.errors import UserError
from asyncsim.theory.checks import between, counts, positive


def zcdp_rho(sigma: float, steps: int, participations: int | None = None) -> float:
    """The zCDP parameter ``rho = T / (2 sigma^2)`` after ``steps`` noisy sums.

    T is the number of sums to which one user may contribute: ``participations``, or all of them, which is always safe. Raises
    ``UserError`` for a sigma that is not above 0, counts that are not whole numbers from 1 on, more participations than steps.

    >>> zcdp_rho(sigma=4.0, steps=1), zcdp_rho(sigma=10.0, steps=1000, participations=50)
    (0.03125, 0.25)
    """
    positive(sigma=sigma)
    counts(steps=steps)
    if participations is not None:
        counts(participations=participations)
        if participations > steps:
            raise UserError(f"participations: {participations} in {steps} steps; allowed are at most as many as steps")
    return (steps if participations is None else participations) / (2 * sigma**2)


def zcdp_epsilon(sigma: float, steps: int, delta: float, participations: int | None = None, tight: bool = False) -> float:
    """The epsilon at ``delta`` after ``steps`` noisy sums: ``rho + 2 sqrt(rho ln(1 / delta))`` with `zcdp_rho`.

    ``tight`` takes the better conversion, the minimum over alpha > 1 of ``rho alpha + ln(1 / (alpha delta)) / (alpha - 1) +
    ln(1 - 1 / alpha)``, and 0 if that is negative. Raises ``UserError`` as `zcdp_rho` does, and for a delta outside of 0 to
    1.

    >>> round(zcdp_epsilon(4.0, 1, 1e-3), 4), round(zcdp_epsilon(4.0, 1, 1e-3, tight=True), 4)
    (0.9605, 0.688)
    """
    rho = zcdp_rho(sigma, steps, participations)
    between(0, 1, delta=delta)
    return _tight(rho, delta) if tight else rho + 2 * math.sqrt(rho * -math.log(delta))


def zcdp_sigma(epsilon: float, steps: int, delta: float, participations: int | None = None) -> float:
    """The smallest noise multiplier with which `zcdp_epsilon` (not tight) is at most ``epsilon``.

    The inverse in closed form: ``sqrt(rho) = sqrt(l + epsilon) - sqrt(l)`` with ``l = ln(1 / delta)``.
    """
    positive(epsilon=epsilon)
    between(0, 1, delta=delta)
    log = -math.log(delta)
    root = epsilon / (math.sqrt(log + epsilon) + math.sqrt(log))
    return math.sqrt(zcdp_rho(1.0, steps, participations)) / root


def _tight(rho: float, delta: float) -> float:
    """The minimum over alpha, by golden section in ``ln(alpha - 1)``; the function falls, then rises."""

    def bound(place: float) -> float:
        beyond = math.exp(place)
        alpha = 1 + beyond
        return rho * alpha - math.log(alpha * delta) / beyond + math.log(beyond / alpha)

    low, high = -20.0, 40.0
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(120):
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, second) if bound(first) < bound(second) else (first, high)
    return max(0.0, bound((low + high) / 2))
