"""The distribution of staleness of asynchronous workers that never wait and send nothing that takes time.

Each worker computes one gradient after the other with independent gamma times of its own coefficient of variation; the server
takes no time. A push of staleness j has seen j pushes of others while it was computed.

Derived (standard renewal theory). Mean staleness is N - 1 for any equal workers; for unequal ones the mean *over pushes* is N
- 1 as well, but slow workers are staler. """

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.checks import all_positive, between, counts, not_negative

CELLS = 400
"""Into which the compute time of the push is divided."""
MOST_WORKERS = 512


def memoryless_staleness(mean_times: Sequence[float], tail: float = 1e-9) -> np.ndarray:
    """Probabilities ``(T + 1,)`` of staleness 0 to T for exponential compute times with these means, over all pushes.

    Worker i makes the share ``p_i`` of the pushes, its rate over the sum of rates, and its staleness is geometric:
    ``P(j) = p_i (1 - p_i)^j``. The rest of the probability, at most ``tail``, is added to the last entry. Raises ``UserError``.

    >>> [round(float(p), 4) for p in memoryless_staleness([1.0, 1.0])[:3]]
    [0.5, 0.25, 0.125]
    """
    times = all_positive("mean_times", mean_times)
    between(0, 1, tail=tail)
    shares = (1 / times) / (1 / times).sum()
    slowest = float(shares.min())
    length = 1 if slowest == 1 else math.ceil(math.log(tail) / math.log1p(-slowest)) + 1
    kinds, numbers = np.unique(shares, return_counts=True)
    law = sum(n * p * p * (1 - p) ** np.arange(length) for p, n in zip(kinds, numbers, strict=True))
    law[-1] += max(0.0, 1 - law.sum())
    return law


def gamma_staleness(workers: int, cv: float) -> np.ndarray:
    """Probabilities ``(T + 1,)`` of staleness 0 to T for N equal workers with gamma compute times.

    While a worker computes for the time t, each of the others pushes M(t) times, a renewal process in equilibrium: ``P(M >= m
    + 1)`` is the chance that a residual time and m whole times sum to at most t. The N - 1 counts are independent given t, so
    their generating functions multiply, and the result is averaged over the gamma law of t, in 400 cells of equal
    probability. ``cv`` 0 is the limit of small spreads, not workers in step: for exactly constant times the answer is ``N -
    1`` by the order of turns.

    Raises ``UserError`` for more than 512 workers, or a ``cv`` above 2.

    >>> law = gamma_staleness(8, 0.1)
    >>> round(float(law @ np.arange(len(law))), 2)
    7.0
    """
    counts(workers=workers)
    not_negative(cv=cv)
    if workers > MOST_WORKERS:
        raise UserError(f"workers: {workers} are too many for this law; allowed are at most {MOST_WORKERS}")
    if cv > 2:
        raise UserError(f"cv: {cv:g} is too large for this law; allowed is at most 2")
    if workers == 1 or cv < 1e-3:
        law = np.zeros(workers)
        law[-1] = 1.0
        return law
    from scipy.special import gammaincinv

    shape = 1 / cv**2
    times = gammaincinv(shape, (np.arange(CELLS) + 0.5) / CELLS) / shape  # in units of the mean
    each = _pushes_within(times, shape)  # (CELLS, M + 1)
    length = 2 ** math.ceil(math.log2(min((workers - 1) * each.shape[1], 16 * workers + 256) + 1))
    functions = np.fft.rfft(each, length) ** (workers - 1)
    law = np.maximum(0.0, np.fft.irfft(functions.mean(axis=0), length))
    law = law[: np.flatnonzero(law > 1e-10)[-1] + 1]
    return law / law.sum()


def _pushes_within(times: np.ndarray, shape: float) -> np.ndarray:
    """``P(M(t) = m)`` for each of ``times`` in units of the mean: an array ``(times, M + 1)``.

    The chance of m + 1 or more is the integral of ``F_m`` up to t minus that of ``F_(m+1)``, with F_m the law of the sum of m
    gamma times (F_0 = 1): the residual time has the density ``1 - F_1``. The integral of F_m up to t is ``t F_m(t) - m F_(m +
    1/shape)(t)``, the second again a gamma law.
    """
    from scipy.special import gammainc

    def integral(m: int) -> np.ndarray:
        if m == 0:
            return times
        return times * gammainc(m * shape, shape * times) - m * gammainc(m * shape + 1, shape * times)

    at_least = [np.ones_like(times)]
    before = integral(0)
    while at_least[-1].max() > 1e-12:
        after = integral(len(at_least))
        at_least.append(np.clip(before - after, 0.0, 1.0))
        before = after
    tails = np.array([*at_least, np.zeros_like(times)]).T
    return tails[:, :-1] - tails[:, 1:]
