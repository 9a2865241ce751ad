"""Asynchronous SGD with N equal memoryless workers on a quadratic, exactly: the mean, and the mean square.

With exponential compute times each update is made by a worker drawn evenly from the N, whatever happened before: it pushes the
gradient at its snapshot s_i and reads the new x::

    x <- x - a s_i - eta n,     s_i <- x                       a = eta h, n of deviation sigma

Staleness is then geometric with mean N - 1. The mean of (x, average snapshot) is a recurrence in two numbers, whose roots
solve ``z^2 - (2 - (1 + a)/N) z + 1 - 1/N = 0``; second moments are one in four: E x^2, E x m, the mean of E s_i^2, and E m^2,
with m the average snapshot. No independence is assumed. Derived here. """

from __future__ import annotations

import math

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.bisection import bisected
from asyncsim.theory.checks import counts, not_negative, positive


def memoryless_rate(a: float, workers: int) -> float:
    """The rate of convergence of the mean for an update, ``-ln |z|`` of the largest root; negative where it diverges.

    Times N it goes to ``(1 - sqrt(1 - 4 X)) / 2`` with ``X = N a`` up to 1/4, as N grows: the rate of exponential delays.

    >>> round(32 * memoryless_rate(0.1 / 32, 32), 4)
    0.1124
    """
    not_negative(a=a)
    counts(workers=workers)
    roots = np.roots([1.0, -(2 - (1 + a) / workers), 1 - 1 / workers])
    radius = float(np.max(np.abs(roots)))
    return -math.log(radius) if radius > 0 else math.inf


def memoryless_limit(workers: int) -> float:
    """The largest ``a = eta h`` at which E x^2 converges: where the spectral radius of the second moments is 1.

    The mean alone would converge up to ``4 N - 2``, which no run bears out.

    >>> [round(memoryless_limit(n), 4) for n in (1, 8, 32)]
    [2.0, 0.5664, 0.2661]
    """
    counts(workers=workers)
    if workers == 1:
        return 2.0  # its snapshot is x: the four moments are one
    return bisected(lambda a: bool(np.max(np.abs(np.linalg.eigvals(_moments(a, workers)))) < 1), 0.0, 4.0)[0]


def memoryless_variance(step: float, workers: int, noise: float, curvature: float = 1.0) -> float:
    """E x^2 of one coordinate in the long run; ``noise`` is the deviation of the gradient's coordinate.

    Raises ``UserError`` where there is none, as the step is too large.
    """
    positive(step=step, curvature=curvature)
    not_negative(noise=noise)
    counts(workers=workers)
    if step * curvature >= memoryless_limit(workers):
        raise UserError(f"step: {step:g} has no stationary variance with {workers} memoryless workers of curvature {curvature:g}")
    if workers == 1:
        return step * noise**2 / (curvature * (2 - step * curvature))
    moments = _moments(step * curvature, workers)
    added = (step * noise) ** 2 * np.array([1, 1 / workers, 1 / workers, 1 / workers**2])
    return float(np.linalg.solve(np.eye(4) - moments, added)[0])


def _moments(a: float, workers: int) -> np.ndarray:
    """The matrix ``(4, 4)`` that takes (E x^2, E x m, mean E s_i^2, E m^2) over one update."""
    n = workers
    square = np.array([1, -2 * a, a * a, 0.0])
    crossed = np.array([0, 1 - 1 / n, a / n, -a]) + square / n
    snapshots = np.array([0, 0, 1 - 1 / n, 0]) + square / n
    moved = np.array([1, -2 * (1 + a), (1 + a) ** 2, 0.0])
    average = np.array([0, 2 / n, 0, 1 - 2 * (1 + a) / n]) + moved / n**2
    return np.array([square, crossed, snapshots, average])
