"""Clicks drawn from a known law, for those who have no table of their own.

Every row r of every column has a latent vector and a leaning, drawn once::

    z_r ~ N(0, I_K)        a_r ~ N(0, LEANING^2)                                                  K = LATENT

The values of a cell are drawn independently, the r-th with probability proportional to ``1 / r^zipf`` (a cell of several values
has 1 to so many, which may be the same, and their mean counts as its row). With F columns::

    logit = OFFSET + sum_f a_f + STRENGTH * sum_(f < g) z_f . z_g / sqrt(K * F (F - 1) / 2)
    click ~ Bernoulli(1 / (1 + exp(-logit)))

So leanings have together the variance F LEANING^2, and products STRENGTH^2. No model can rank better than the logit itself does:
`law` gives it, too.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from asyncsim.streams import Streams
from asyncsim.tasks.data.arrays import Arrays, stratified

LATENT, LEANING, STRENGTH, OFFSET = 4, 0.5, 1.5, -1.0
"""They and the order of the draws are part of the determinism contract: others give other clicks."""


@lru_cache(maxsize=2)
def load(tables: tuple[tuple[int, int], ...], samples: int, zipf: float, test: float, seed: int) -> Arrays:
    """IDs ``(n, S)`` and clicks ``(n,)`` of `law`, a share ``test`` of them for testing."""
    ids, _, clicks = law(tables, samples, zipf, seed)
    return Arrays(*stratified(ids, clicks, max(1, round(test * samples))))


def law(tables: tuple[tuple[int, int], ...], samples: int, zipf: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """IDs ``(samples, S)``, logits and clicks ``(samples,)``. ``tables`` has (rows, values a cell) of each column."""
    rng = Streams(seed)("clicks")
    ids, first = [], 1  # the ID 0 stands for no value
    leanings = np.zeros(samples)
    vectors = np.zeros((2, samples, LATENT))  # the sum over columns, and the sum of squares
    for rows, values in tables:
        latent, leaning = rng.standard_normal((rows, LATENT)), LEANING * rng.standard_normal(rows)
        weights = (1.0 + np.arange(rows)) ** -zipf
        drawn = rng.choice(rows, size=(samples, values), p=weights / weights.sum())
        there = np.arange(values) < rng.integers(1, values + 1, size=(samples, 1))
        share = there / there.sum(axis=1, keepdims=True)
        vector = np.einsum("nsk,ns->nk", latent[drawn], share)
        leanings += np.einsum("ns,ns->n", leaning[drawn], share)
        vectors += vector, vector**2
        ids.append(np.where(there, first + drawn, 0))
        first += rows
    pairs = max(1, len(tables) * (len(tables) - 1) // 2)
    products = (vectors[0] ** 2 - vectors[1]).sum(axis=1) / 2
    logits = OFFSET + leanings + STRENGTH * products / np.sqrt(LATENT * pairs)
    clicks = rng.random(samples) < 1 / (1 + np.exp(-logits))
    return np.concatenate(ids, axis=1), logits, clicks.astype(np.int64)
