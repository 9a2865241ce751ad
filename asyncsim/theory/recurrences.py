"""SGD with integer staleness on a quadratic: exact stability and rate of the mean, with and without momentum.

One coordinate of curvature h, step eta, ``a = eta h``; update k applies a gradient of staleness j with probability ``p_j``,
whatever happened before. Then the mean obeys::

    E x_(k+1) = (1 + m) E x_k - m E x_(k-1) - a sum_j p_j (E x_(k-j)), and with Nesterov's momentum the gradient part is
                                            - a sum_j p_j ((1 + m) E x_(k-j) - m E x_(k-1-j))

and its characteristic function, in ``z``, is ``D(z) = (z - 1)(1 - m/z) + a C(z) P(1/z)`` with ``P(y) = sum_j p_j y^j`` and
``C = 1`` or, for Nesterov, ``C = 1 + m - m/z``. Momentum m is PyTorch's (``v <- m v + g``, ``x <- x - eta v``).

**For one constant staleness the mean is the run, and everything here is exact**: workers of equal constant speed take turns, and
N of them have staleness N - 1. For a distribution see also `mean_square`.

A method may weigh a gradient by its staleness alone (staleness-aware steps: ``w_j = 1 / max(1, j)``). Then ``p_j w_j`` takes
the place of ``p_j`` in P.

Derived (standard analysis of linear recurrences); for constant staleness tau without momentum the limit is the well-known
``2 sin(pi / (2 (2 tau + 1)))``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.bisection import crossing
from asyncsim.theory.checks import all_positive, counts, distribution, momentum_of, not_negative

Staleness = int | Sequence[float] | np.ndarray
"""One staleness, or the probabilities of staleness 0, 1, 2, ..."""
MOST_ROOTS = 600
"""Largest staleness of which all roots are computed, in about a second."""


class Recurrence(NamedTuple):
    """What of a recurrence does not depend on the step: ``shares`` ``(T + 1,)`` are ``p_j w_j`` of staleness 0 to T, and
    ``square`` is the mean square of the weight."""

    shares: np.ndarray
    square: float
    momentum: float = 0.0
    nesterov: bool = False

    def gradient_part(self, z: np.ndarray) -> np.ndarray:
        """``C(z) P(1/z)``."""
        return self.factor(z) * np.polyval(self.shares[::-1], 1 / z)

    def factor(self, z: np.ndarray) -> np.ndarray:
        """``C(z)``."""
        return 1 + self.momentum - self.momentum / z if self.nesterov else np.ones_like(z)

    def inertia(self, z: np.ndarray) -> np.ndarray:
        """``(z - 1)(1 - m/z)``."""
        return (z - 1) * (1 - self.momentum / z)


def recurrence(
    staleness: Staleness, momentum: float = 0.0, nesterov: bool = False, weights: Sequence[float] | np.ndarray | None = None
) -> Recurrence:
    """The recurrence of a staleness and a momentum; ``weights`` are those of staleness 0, 1, 2, ..., all 1 if left out.

    Raises ``UserError`` for what is no staleness, no distribution, no momentum of at least 0 and below 1, or weights that are
    too few or not above 0.
    """
    momentum_of(momentum)
    if isinstance(staleness, int | np.integer):
        if staleness < 0:
            raise UserError(f"staleness: {int(staleness)} must be at least 0")
        shares = np.zeros(int(staleness) + 1)
        shares[-1] = 1.0
    else:
        shares = np.trim_zeros(distribution("staleness", staleness), "b")
    if weights is None:
        return Recurrence(shares, 1.0, float(momentum), nesterov)
    weighed = all_positive("weights", weights)[: len(shares)]
    if len(weighed) < len(shares):
        raise UserError(f"weights: {len(weighed)} for staleness 0 to {len(shares) - 1}; allowed is one for each")
    return Recurrence(shares * weighed, float(shares @ weighed**2), float(momentum), nesterov)


def constant_staleness_limit(staleness: int) -> float:
    """The largest stable ``a = eta h`` of plain SGD at one staleness: ``2 sin(pi / (2 (2 tau + 1)))``.

    >>> [round(constant_staleness_limit(tau), 6) for tau in (0, 1, 7)]
    [2.0, 1.0, 0.209057]
    """
    counts(workers=staleness + 1)
    return 2 * math.sin(math.pi / (2 * (2 * staleness + 1)))


def mean_limit(
    staleness: Staleness, momentum: float = 0.0, nesterov: bool = False, weights: Sequence[float] | np.ndarray | None = None
) -> float:
    """The largest ``a = eta h`` for which the mean converges; exact for the run itself where the staleness is constant.

    As ``a`` grows from 0, all roots start inside the unit circle, and the first to leave it does so at a point ``z = exp(i
    theta)`` where ``-(z - 1)(1 - m/z) / (C(z) P(1/z))`` is real and positive: the smallest such number is the limit. The
    points are bracketed on a grid that is 32 times as fine as the fastest turn of P, and found by bisection. Raises
    ``UserError`` as `recurrence` does.

    >>> round(mean_limit(7), 6), round(mean_limit(1, momentum=0.9), 6)
    (0.209057, 0.1)
    """
    return limit_of(recurrence(staleness, momentum, nesterov, weights))


def limit_of(law: Recurrence) -> float:
    """`mean_limit` of a recurrence."""
    points = 32 * (len(law.shares) + 8)
    # unevenly: near 0, where the numerator vanishes, the angle matters on a scale of its own
    angles = math.pi * np.linspace(0, 1, points + 1)[1:] ** 1.5

    def step(angle: np.ndarray) -> np.ndarray:
        z = np.exp(1j * angle)
        return -law.inertia(z) / law.gradient_part(z)

    values = step(angles)
    found = [float(values[-1].real)]  # at z = -1 all is real
    places = np.flatnonzero(np.sign(values.imag[:-2]) * np.sign(values.imag[1:-1]) < 0)
    sizes = np.minimum(np.abs(values[places]), np.abs(values[places + 1]))
    for place, size in sorted(zip(places, sizes, strict=True), key=lambda pair: pair[1]):
        if size > 4 * min((value for value in found if value > 0), default=math.inf):
            break  # the grid is so fine that the size at the crossing is near to this one
        here = crossing(step, angles[place], angles[place + 1])
        if abs(here.imag) < 1e-3 * abs(here):  # not a pole, where the sign changes as well
            found.append(float(here.real))
    return min(value for value in found if value > 0)


def spectral_radius(a: float, staleness: Staleness, momentum: float = 0.0, nesterov: bool = False) -> float:
    """The largest modulus of the roots: the factor by which the mean shrinks with each update, in the long run; above 1 it grows.

    All roots of ``z^(T + 1) D(z)`` are computed. Raises ``UserError`` as `recurrence` does, for a negative ``a``, and for
    a staleness above 600, of which the roots take too long.

    >>> round(spectral_radius(0.25, 1), 5), round(spectral_radius(0.0, 3), 5)
    (0.5, 1.0)
    """
    not_negative(a=a)
    law = recurrence(staleness, momentum, nesterov)
    largest = len(law.shares) - 1
    if largest > MOST_ROOTS:
        raise UserError(f"staleness: {largest} is too large for its roots; allowed is at most {MOST_ROOTS}")
    m = law.momentum
    gradient = np.convolve(law.shares, [1 + m, -m]) if nesterov else np.append(law.shares, 0.0)  # of 1, 1/z, 1/z^2, ...
    powers = np.append(0.0, a * gradient)  # of z, 1, 1/z, ...
    powers[:3] += np.array([1.0, -(1 + m), m])
    return float(np.max(np.abs(np.roots(powers)), initial=0.0))


def update_rate(a: float, staleness: Staleness, momentum: float = 0.0, nesterov: bool = False) -> float:
    """The rate of convergence for an update, ``-ln`` of the `spectral_radius`; negative where the mean diverges, infinite
    where it arrives in finitely many updates."""
    radius = spectral_radius(a, staleness, momentum, nesterov)
    return -math.log(radius) if radius > 0 else math.inf


def critical_step(staleness: int) -> float:
    """The ``a`` of the fastest convergence at one staleness, without momentum: ``tau^tau / (tau + 1)^(tau + 1)``, of spectral
    radius ``tau / (tau + 1)``. Below it nothing oscillates.

    >>> critical_step(0), critical_step(1)
    (1.0, 0.25)
    """
    counts(workers=staleness + 1)
    return math.exp((staleness * math.log(staleness) if staleness else 0.0) - (staleness + 1) * math.log(staleness + 1))
