"""How long any method, and some known ones, need to find a point where the gradient is small, on workers of fixed speeds.

The function is L-smooth and ``delta`` above its minimum at the start, stochastic gradients have the variance ``sigma^2`` and take
worker i the time ``h_i``; the goal is ``E |grad f|^2 <= epsilon``. All formulas hold **up to a constant factor**, which nobody
states; so compare them with each other, not with a clock.

Sources: A. Tyurin, P. Richtarik, "Optimal time complexities of parallel stochastic optimization methods under a fixed
computation model", NeurIPS 2023 (the optimal time, reached by Rennala); A. Maranjyan, A. Tyurin, P. Richtarik, "Ringmaster
ASGD", ICML 2025 (reached by asynchronous SGD with a threshold); synchronous SGD of the fastest m: G. Begunov, A. Tyurin,
arXiv 2602.03802 (its abstract was read: near-optimal in many cases; the formula here is the one of synchronous SGD with m
workers, derived, not quoted). """

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.checks import all_positive, counts, not_negative, positive


class Time(NamedTuple):
    """``seconds``, up to a constant factor, in the unit of the workers' times; the fastest ``workers`` are worth using."""

    seconds: float
    workers: int


class Problem(NamedTuple):
    """What is to be solved: smoothness L, how far the start is above the minimum, the variance of stochastic gradients, and the
    goal for the squared norm of the gradient."""

    smoothness: float
    delta: float
    variance: float
    epsilon: float

    def gradients(self, batch: np.ndarray | float) -> np.ndarray | float:
        """Steps of SGD whose gradients average ``batch`` samples: ``L delta / epsilon + sigma^2 L delta / (batch epsilon^2)``."""
        positive(smoothness=self.smoothness, delta=self.delta, epsilon=self.epsilon)
        not_negative(variance=self.variance)
        plain = self.smoothness * self.delta / self.epsilon
        return plain * (1 + self.variance / (self.epsilon * batch))


def optimal_time(times: Sequence[float], problem: Problem) -> Time:
    """The least time that any method needs, reached by Rennala SGD and by Ringmaster ASGD::

        min over m of (1/m sum_(i <= m) 1/h_i)^-1 (L delta / epsilon + sigma^2 L delta / (m epsilon^2)),  h_1 <= h_2 <= ...

    Raises ``UserError`` for times, or numbers of the problem, that are not above 0 (a variance may be 0).

    >>> optimal_time([1.0, 1.0, 100.0], Problem(1.0, 1.0, variance=4.0, epsilon=1.0))
    Time(seconds=3.0, workers=2)
    """
    sorted_times = np.sort(all_positive("times", times))
    m = np.arange(1, len(sorted_times) + 1)
    harmonic = m / np.cumsum(1 / sorted_times)
    return _least(harmonic * problem.gradients(m))


def m_synchronous_time(times: Sequence[float], problem: Problem) -> Time:
    """The time of synchronous SGD of the m fastest workers, at the best m: ``min over m of h_m (L delta / epsilon + sigma^2 L
    delta / (m epsilon^2))``. Never below `optimal_time`. Raises ``UserError`` as that does."""
    sorted_times = np.sort(all_positive("times", times))
    m = np.arange(1, len(sorted_times) + 1)
    return _least(sorted_times * problem.gradients(m))


def synchronous_time(times: Sequence[float], problem: Problem) -> Time:
    """The time of synchronous SGD of all workers: ``max h_i (L delta / epsilon + sigma^2 L delta / (n epsilon^2))``. Raises
    ``UserError`` as `optimal_time` does."""
    found = all_positive("times", times)
    return Time(float(found.max() * problem.gradients(len(found))), len(found))


def rennala_batch(problem: Problem) -> int:
    """The batch of Rennala SGD, ``max(ceil(sigma^2 / epsilon), 1)``; Ringmaster's threshold R is the same number (recalled
    from the papers)."""
    positive(epsilon=problem.epsilon)
    not_negative(variance=problem.variance)
    return max(math.ceil(problem.variance / problem.epsilon), 1)


def rennala_round(times: Sequence[float], batch: int) -> float:
    """The time in which workers of constant speeds, that all begin at 0 at the same point, have made ``batch`` gradients: the
    least t with ``sum floor(t / h_i) >= batch``. Exact; what a run of `rennala` takes for an update.

    >>> rennala_round([1.0, 2.0], 4)  # three of the first, and one of the second
    3.0
    """
    found = all_positive("times", times)
    counts(batch=batch)
    most = np.ceil(batch * (1 / found) / (1 / found).sum()).astype(int) + 1
    if int(most.max()) * len(found) > 10**8:
        raise UserError(f"batch: {batch} is too large here; allowed are at most 10^8 candidates for the time")
    ends = np.concatenate([h * np.arange(1, n + 1) for h, n in zip(found, most, strict=True)])
    return float(np.sort(ends)[batch - 1])


def rennala_bound(times: Sequence[float], batch: int) -> float:
    """A bound on `rennala_round`: ``2 min over m of (1/m sum_(i <= m) 1/h_i)^-1 (1 + batch / m)`` (recalled from the Rennala
    paper; the factor is checked by the tests)."""
    sorted_times = np.sort(all_positive("times", times))
    counts(batch=batch)
    m = np.arange(1, len(sorted_times) + 1)
    return 2 * float(np.min((m + batch) / np.cumsum(1 / sorted_times)))


def _least(seconds: np.ndarray) -> Time:
    place = int(np.argmin(seconds))
    return Time(float(seconds[place]), place + 1)
