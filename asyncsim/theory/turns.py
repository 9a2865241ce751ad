"""Asynchronous SGD with N workers that take turns, on a quadratic: the exact rate, for any N.

Equal constant compute times give every gradient the staleness ``tau = N - 1``, and ``x_(k+1) = x_k - a x_(k - tau)``, whose roots
solve ``z^tau (1 - z) = a``. Up to the `critical_step` the slowest root is real, beyond it a pair of complex roots. Derived
(standard); times N it goes to `delay_rate` of ``N a`` as N grows.
"""

from __future__ import annotations

import cmath
import math

from asyncsim.theory.bisection import bisected
from asyncsim.theory.checks import counts, not_negative
from asyncsim.theory.following import followed
from asyncsim.theory.recurrences import critical_step


def turns_rate(a: float, workers: int) -> float:
    """The rate of convergence for an update, ``-ln |z|``, of ``a = eta h``; negative where the run diverges.

    >>> [round(n * turns_rate(0.5 / n, n), 3) for n in (4, 16, 64, 256)]
    [1.018, 0.842, 0.806, 0.797]
    """
    not_negative(a=a)
    counts(workers=workers)
    tau = workers - 1
    if tau == 0:
        return math.inf if a == 1 else -math.log(abs(1 - a))
    critical = critical_step(tau)
    if a <= critical:
        return -math.log(_real_root(a, tau))
    top = tau / workers
    root = followed(
        lambda z: tau * cmath.log(z) + cmath.log(1 - z), lambda z: tau / z - 1 / (1 - z),
        top, tau / top**2 + 1 / (1 - top) ** 2, math.log(critical), math.log(a),
    )  # fmt: skip
    return -math.log(abs(root))


def _real_root(a: float, tau: int) -> float:
    """The root between ``tau / (tau + 1)`` and 1, by bisection of ``z^tau (1 - z)``, which falls there."""
    low, high = bisected(lambda z: math.exp(tau * math.log(z)) * (1 - z) > a, tau / (tau + 1), 1.0)
    return (low + high) / 2
