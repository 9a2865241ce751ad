"""The way of SGD with stale gradients on a quadratic from its start: the mean, and what the noise of the gradients adds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.checks import not_negative
from asyncsim.theory.recurrences import Staleness, recurrence

MOST_UPDATES = 200_000


def mean_path(
    a: float, staleness: Staleness, updates: int, momentum: float = 0.0, nesterov: bool = False,
    weights: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """E x_k over ``x_0`` for k = 0 to ``updates``, an array ``(updates + 1,)``: the recurrence of `recurrences` with ``a =
    eta h``.

    Before the first update everybody has read the start, so a gradient cannot be staler than k: ``x_(k-j)`` with j > k is x_0.
    Values that overflow are infinite. Raises ``UserError`` as `recurrence` does, and for more than 200,000 updates.

    >>> mean_path(0.5, 1, 3)
    array([ 1.  ,  0.5 ,  0.  , -0.25])
    """
    not_negative(a=a)
    law = recurrence(staleness, momentum, nesterov, weights)
    _check(updates)
    m, length = law.momentum, len(law.shares)
    mixture = law.shares[::-1]
    x = np.ones(length + updates + 1)  # before 0: the start
    direction = before = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(updates):
            gradient = float(mixture @ x[k + 1 : k + 1 + length])
            direction = m * before + gradient
            x[k + length + 1] = x[k + length] - a * (gradient + m * direction if nesterov else direction)
            before = direction
    return x[length:]


def noise_path(
    step: float, staleness: Staleness, updates: int, noise: float, curvature: float = 1.0, momentum: float = 0.0,
    nesterov: bool = False, weights: Sequence[float] | np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """The variance that the noise of the gradients has added to one coordinate after k = 0 to ``updates``, ``(updates + 1,)``.

    ``step^2 noise^2`` times the running sum of squares of the response to one unit of noise, which is exact for a constant
    staleness; for a distribution the part that random staleness adds by itself is left out (`stationary_variance` has it in
    the long run).
    """
    not_negative(step=step, noise=noise, curvature=curvature)
    law = recurrence(staleness, momentum, nesterov, weights)
    _check(updates)
    m, length, a = law.momentum, len(law.shares), step * curvature
    mixture = law.shares[::-1]
    x = np.zeros(length + updates + 1)
    before = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(updates):
            gradient = a * float(mixture @ x[k + 1 : k + 1 + length]) + (1.0 if k == 0 else 0.0)
            direction = m * before + gradient
            x[k + length + 1] = x[k + length] - (gradient + m * direction if nesterov else direction)
            before = direction
        response = x[length:]
        return law.square * (step * noise) ** 2 * np.cumsum(response**2)


def _check(updates: int) -> None:
    if not 0 <= updates <= MOST_UPDATES:
        raise UserError(f"updates: {updates} must be from 0 to {MOST_UPDATES:,}")
