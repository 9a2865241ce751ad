"""The largest stable step of a scenario, from the staleness that its timeline has."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asyncsim.standing.facts import Facts
from asyncsim.theory.mean_square import stable_step
from asyncsim.theory.recurrences import mean_limit

MOST_STALENESS = 240
"""Larger ones are put into bins: what matters then is the step times the staleness, and the limit is off by less than 1 %."""


class Limits(NamedTuple):
    """Of learning rate times curvature: up to ``safe`` the mean square converges, up to ``mean`` the mean; equal for one constant
    staleness. ``fresh`` is the limit of the same step rule without staleness."""

    safe: float
    mean: float
    fresh: float


def law_of(staleness: np.ndarray, workers: int) -> np.ndarray:
    """Shares ``(T + 1,)`` of the pushes with staleness 0 to T. The first push of each worker, which had read the start, is
    left out where there are at least four times as many."""
    steady = staleness[workers:] if len(staleness) >= 4 * workers else staleness
    counts = np.bincount(np.asarray(steady, dtype=np.int64))
    return counts / counts.sum()


def limits_of(facts: Facts, law: np.ndarray) -> Limits:
    """The limits of a step rule at a law of staleness.

    A law that reaches beyond 240 is put into bins of w versions, whose step is w times as large; momentum then has died out
    within a bin, so it only divides the limit: by ``1 - m``, heavy ball and Nesterov alike.
    """
    momentum, nesterov = facts.momentum, facts.nesterov
    fresh = mean_limit(0, momentum, nesterov)
    width = math.ceil(len(law) / MOST_STALENESS)
    weights = 1 / np.maximum(1.0, np.arange(len(law))) if facts.by_staleness else np.ones(len(law))
    scale = 1.0
    if width > 1:
        padded = -len(law) % width
        mass = np.pad(law, (0, padded)).reshape(-1, width).sum(axis=1)
        pulled = np.pad(law * weights, (0, padded)).reshape(-1, width).sum(axis=1)
        weights = np.divide(pulled, mass, out=np.ones_like(mass), where=mass > 0)
        law, scale, momentum, nesterov = mass, (1 - momentum) / width, 0.0, False
    safe = stable_step(law, momentum=momentum, nesterov=nesterov, weights=weights)
    mean = mean_limit(law, momentum, nesterov, weights)
    return Limits(scale * safe, scale * mean, fresh)
