"""How many workers, and which step, converge fastest on a quadratic without noise.

More workers make more updates and make them staler. At a fixed step there is a best number of them, beyond which adding workers
slows down, and at last makes the run diverge. Asynchronous SGD whose workers are equal, with compute times of coefficient of
variation ``cv``, no communication, no momentum.

The claim "more workers need not accelerate" is that of arXiv 2406.11159 (abstract); the numbers are derived from `turns`,
`memoryless_workers` and `gamma_delay`, and the use as a policy is our reconstruction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.checks import all_positive, counts, not_negative, positive
from asyncsim.theory.gamma_delay import gamma_fastest, gamma_limit, gamma_rate
from asyncsim.theory.memoryless_workers import memoryless_limit, memoryless_rate
from asyncsim.theory.recurrences import constant_staleness_limit
from asyncsim.theory.turns import turns_rate

MOST_WORKERS = 10**9


class Best(NamedTuple):
    """``workers`` converge fastest: the distance of the slowest coordinate falls as ``exp(-rate t)`` with t in mean compute
    times; one worker alone would have the rate ``alone``."""

    workers: int
    rate: float
    alone: float


def fleet_rate(a: float, workers: int, cv: float = 0.0) -> float:
    """The rate of convergence of the mean over one mean compute time, for ``a = eta h``; negative where it diverges.

    Exact for ``cv`` 0 (workers take turns) and 1 (exponential times). Between it is that of gamma delays in
    continuous time, ``gamma_rate(N a, cv)``, which is off by about 1/N.
    """
    not_negative(a=a)
    counts(workers=workers)
    if cv == 0:
        return workers * turns_rate(a, workers)
    if cv == 1:
        return workers * memoryless_rate(a, workers)
    return gamma_rate(workers * a, cv)


def best_workers(step: float, curvatures: float | Sequence[float] | np.ndarray, cv: float = 0.0) -> Best:
    """The number of workers whose slowest coordinate converges fastest at a fixed step eta; the smallest of equals.

    For one curvature h it is about ``X / (eta h)`` with X = 1/e for constant and 1/4 for exponential compute times
    (`gamma_fastest`). For several, the rate is the smallest over ``curvatures``, which rises with N for the small ones and falls
    for the large ones. Raises ``UserError`` for what is not above 0, and where the answer exceeds 10^9 workers.

    >>> best_workers(0.01, 1.0).workers, best_workers(0.01, 1.0, cv=1.0).workers
    (38, 26)
    """
    positive(step=step)
    h = all_positive("curvatures", [curvatures] if isinstance(curvatures, int | float) else curvatures)
    ends = sorted({float(h.min()) * step, float(h.max()) * step})

    def rate(workers: int) -> float:
        return min(fleet_rate(a, workers, cv) for a in ends)

    high = math.ceil(gamma_fastest(cv) / ends[0]) + 2
    if high > MOST_WORKERS:
        raise UserError(f"step: {step:g} with curvature {ends[0] / step:g} is too small; the best number of workers exceeds 10^9")
    best = _highest(rate, 1, high)
    return Best(best, rate(best), rate(1))


def most_workers(step: float, curvature: float, cv: float = 0.0) -> int:
    """The largest number of workers with which a fixed step eta is stable; 0 if it is not with one.

    Exact for ``cv`` 0, by mean squares for ``cv`` 1 (`memoryless_limit`); between by gamma delays, about (`gamma_limit`,
    which is of the mean). Raises ``UserError`` for what is not above 0, and where the answer exceeds 10^9 workers.
    """
    positive(step=step, curvature=curvature)
    a = step * curvature
    low, high = 0, 1

    def stable(workers: int) -> bool:
        if cv == 0 or workers == 1:
            return a < constant_staleness_limit(workers - 1)
        return a < (memoryless_limit(workers) if cv == 1 else gamma_limit(cv) / workers)

    while stable(high):
        low, high = high, 2 * high
        if high > MOST_WORKERS:
            raise UserError(f"step: {step:g} with curvature {curvature:g} is too small; it is stable with 10^9 workers")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if stable(middle) else (low, middle)
    return low


def best_step(workers: int, curvatures: float | Sequence[float] | np.ndarray, cv: float = 0.0) -> float:
    """The step eta at which the slowest coordinate of ``workers`` workers converges fastest.

    For one curvature, constant times and many workers it is ``1 / (e N h)``, the largest that does not oscillate; for
    several, the smallest and the largest are balanced. Raises ``UserError`` for what is not above 0.
    """
    counts(workers=workers)
    h = all_positive("curvatures", [curvatures] if isinstance(curvatures, int | float) else curvatures)
    smallest, largest = float(h.min()), float(h.max())

    def rate(step: float) -> float:
        return min(fleet_rate(step * smallest, workers, cv), fleet_rate(step * largest, workers, cv))

    low, high = 0.0, min(2.0, 2 * gamma_fastest(cv) + 2 / workers, gamma_limit(cv)) / smallest
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(200):
        first, second = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, second) if rate(first) >= rate(second) else (first, high)
        if high - low <= 1e-12 * high:
            break
    return (low + high) / 2


def _highest(rate: Callable[[int], float], low: int, high: int) -> int:
    """The smallest place of the maximum of a function that rises, then falls or stays."""
    while high > low:
        middle = (low + high) // 2
        here, after = rate(middle), rate(middle + 1)
        low, high = (middle + 1, high) if after > here * (1 + math.copysign(1e-12, here)) else (low, middle)
    return low
