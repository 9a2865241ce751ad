"""The largest stable step of a scenario, from the staleness that its timeline has."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from asyncsim.standing.facts import Facts
from asyncsim.theory.mean_square import stable_step
from asyncsim.theory.recurrences import mean_limit

MOST_STALENESS = 400
"""Larger ones are put into bins: what matters then is the step times the staleness."""


class Limits(NamedTuple):
    """Of learning rate times curvature: up to ``safe`` the mean square converges, up to ``mean`` the mean; equal for one constant
    staleness. ``fresh`` is the limit of the same step rule without staleness."""

    safe: float
    mean: float
    fresh: float


def law_of(staleness: np.ndarray, workers: int) -> np.ndarray:
    """Shares ``(T + 1,)`` of the `steady` pushes with staleness 0 to T."""
    counts = np.bincount(np.asarray(steady(staleness, workers), dtype=np.int64))
    return counts / counts.sum()


def steady(staleness: np.ndarray, workers: int) -> np.ndarray:
    """The staleness of pushes without the first of each worker, which had read the start, where there are at least four times
    as many."""
    return staleness[workers:] if len(staleness) >= 4 * workers else staleness


def weights_of(facts: Facts, law: np.ndarray) -> np.ndarray:
    """What a gradient of each staleness is multiplied by."""
    return 1 / np.maximum(1.0, np.arange(len(law))) if facts.by_staleness else np.ones(len(law))


def limits_of(facts: Facts, law: np.ndarray) -> Limits:
    """The limits of a step rule at a law of staleness.

    A law that reaches beyond 400 is put into bins of w versions, whose step is w times as large. Momentum m then divides the
    limit by ``1 - m`` and adds its own mean delay, ``m / (1 - m)`` versions (m less with Nesterov's). The limit of the mean
    is off by less than 1 %; that of the mean square is up to 2 % too small, as a bin counts as one draw.
    """
    momentum, nesterov = facts.momentum, facts.nesterov
    fresh = mean_limit(0, momentum, nesterov)
    width = math.ceil(len(law) / MOST_STALENESS)
    weights = weights_of(facts, law)
    scale = 1.0
    if width > 1:
        law, weights = _binned(law, weights, width, round(momentum / (1 - momentum) - momentum * nesterov))
        scale, momentum, nesterov = (1 - momentum) / width, 0.0, False
    safe = stable_step(law, momentum=momentum, nesterov=nesterov, weights=weights)
    mean = mean_limit(law, momentum, nesterov, weights)
    return Limits(scale * safe, scale * mean, fresh)


def _binned(law: np.ndarray, weights: np.ndarray, width: int, later: int) -> tuple[np.ndarray, np.ndarray]:
    """Shares and weights of bins of ``width`` versions, after everything has been made ``later`` versions staler.

    The bin of staleness j is ``(j + (w - 1) / 2) / w``, rounded down: it counts whole bins between two updates, not their ends.
    """
    places = (np.arange(len(law)) + later + width // 2) // width
    mass, pulled = np.bincount(places, law), np.bincount(places, law * weights)
    return mass, np.divide(pulled, mass, out=np.ones_like(mass), where=mass > 0)
