"""SGD with random integer staleness on a quadratic: exact mean-square stability, and the variance in the long run.

``x_(k+1) = x_k - a x_(k - J_k) - eta n_k`` with ``J_k`` drawn anew for each update from ``p``, and gradient noise ``n_k`` of
deviation sigma, both independent of everything before. The draw acts like a noise that is proportional to x: write ``x_(k-J)
= sum_j p_j x_(k-j) + e_k``; given the past, ``e_k`` has mean 0. So the variance V in the long run obeys, with D and C as in
`recurrences` and averages over the unit circle ``z = exp(i theta)``::

    v = E e^2 = [mean of (1 - |P|^2) |C|^2 / |D|^2] (a^2 v + eta^2 sigma^2)
    V         = [mean of             |C|^2 / |D|^2] (a^2 v + eta^2 sigma^2)

It exists exactly if the mean converges and ``a^2 [mean of (1 - |P|^2) |C|^2 / |D|^2] < 1``: the condition for E x^2 to converge.
With weights w_j of staleness j, ``E w^2`` takes the place of the 1, and multiplies sigma^2.
For constant staleness ``|P| = 1``, and the limit is that of the mean. Derived here (the standard treatment of multiplicative
noise); the tests check it against moments that are iterated, and against runs.

**What is left out**: in a fleet the draws depend on each other (a worker that was slow is fresh afterwards). The tests
measure it: the limit here is below the one at which single runs diverge, by 1 % for gamma times of CV 0.1, by a sixth for CV
0.5, and by a quarter for exponential ones; `memoryless_workers` has the last case without this. """

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.checks import not_negative, positive
from asyncsim.theory.circle import circle_means
from asyncsim.theory.recurrences import Recurrence, Staleness, limit_of, recurrence


def stable_step(
    staleness: Staleness, curvature: float = 1.0, momentum: float = 0.0, nesterov: bool = False,
    weights: Sequence[float] | np.ndarray | None = None,
) -> float:  # fmt: skip
    """The largest step eta at which E x^2 converges, for a staleness or a distribution of it, and the largest curvature.

    Exact for one constant staleness and for independent draws (see above). Raises ``UserError`` as `recurrence` does, and for a
    curvature that is not above 0.

    >>> round(stable_step(7), 6), round(stable_step(7, curvature=10.0), 7)
    (0.209057, 0.0209057)
    """
    positive(curvature=curvature)
    law = recurrence(staleness, momentum, nesterov, weights)
    high = limit_of(law)
    if np.count_nonzero(law.shares) == 1:
        return high / curvature
    return _largest(law, high) / curvature


def _largest(law: Recurrence, high: float) -> float:
    """Where ``a^2`` times the first average is 1, below the limit ``high`` of the mean, where it is infinite. Its inverse
    less 1 falls nearly in a line there: regula falsi (Illinois), to 1e-7."""

    def excess(a: float) -> float:
        return 1 / (a**2 * _amplification(law, a, 1e-8)[0]) - 1

    low, below, above, kept = 0.9 * high, excess(0.9 * high), -1.0, 0
    while below < 0:
        high, above, low = low, below, low / 2
        below = excess(low)
    for _ in range(100):
        place = high - above * (high - low) / (above - below)
        value = excess(place)
        if value > 0:
            low, below = place, value
            above, kept = (above / 2, 1) if kept == 1 else (above, 1)
        else:
            high, above = place, value
            below, kept = (below / 2, -1) if kept == -1 else (below, -1)
        if high - low < 1e-7 * high or abs(value) < 1e-8:
            break
    return low if abs(value) >= 1e-8 else place


def stationary_variance(
    step: float, staleness: Staleness, noise: float, curvature: float = 1.0, momentum: float = 0.0, nesterov: bool = False,
    weights: Sequence[float] | np.ndarray | None = None,
) -> float:  # fmt: skip
    """The variance of one coordinate in the long run, E x^2 around the optimum.

    ``noise`` is the deviation sigma of a coordinate of the gradient (that of a batch). The loss in excess is ``h / 2`` times
    this, summed over the coordinates. Raises ``UserError`` where there is none, as the step is too large.

    >>> round(stationary_variance(0.5, 0, noise=1.0), 6)  # without staleness: eta sigma^2 / (h (2 - eta h))
    0.333333
    """
    positive(step=step, curvature=curvature)
    not_negative(noise=noise)
    law = recurrence(staleness, momentum, nesterov, weights)
    a = step * curvature
    limit = limit_of(law)
    own, plain = _amplification(law, a) if a < limit else (math.inf, math.inf)
    if not own * a**2 < 1 or not math.isfinite(plain):
        raise UserError(f"step: {step:g} has no stationary variance: step times curvature is {a:g}, above the largest stable one")
    return plain * law.square * (step * noise) ** 2 / (1 - a**2 * own)


def _amplification(law: Recurrence, a: float, tolerance: float = 1e-12) -> tuple[float, float]:
    """The averages of ``(1 - |P|^2) |C|^2 / |D|^2`` and of ``|C|^2 / |D|^2`` over the circle; infinite where they do not
    settle."""

    def responses(z: np.ndarray) -> np.ndarray:
        polynomial, factor = np.polyval(law.shares[::-1], 1 / z), law.factor(z)
        response = np.abs(factor / (law.inertia(z) + a * factor * polynomial)) ** 2
        return np.array([np.maximum(0.0, law.square - np.abs(polynomial) ** 2) * response, response])

    own, plain = circle_means(responses, 8 + len(law.shares) // 4, tolerance)
    return float(own), float(plain)
