"""Contacts among nodes that move: a stream of timed interactions that needs no file."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from asyncsim.streams import Streams
from asyncsim.tasks.data.interactions import Interactions, in_order

DIMENSIONS = 2
RECENT = 5
"""The number of partners that a node remembers."""


@lru_cache(maxsize=4)
def contacts(interactions: int, nodes: int, drift: float, recency: float, noise: float) -> Interactions:
    """``interactions`` of ``nodes`` nodes, the same for every seed of a run.

    Each node has a place on a circle, which wanders by a random walk: by a standard normal angle times ``drift`` in the mean
    time between two contacts that it begins. Contacts are a Poisson process. The node ``i`` that begins one is drawn by its
    activity (log-normal); with probability ``recency`` it meets one of its last five partners again, otherwise ``j`` is drawn
    with weights ``exp(8 cos(angle between them))``, so that it is near. The features of a contact are the places of the two,
    ``(cos, sin)`` each, with normal noise of deviation ``noise``.
    """
    rng = Streams(0)("contacts")
    activity = np.exp(rng.normal(0.0, 0.5, nodes))
    activity /= activity.sum()
    angle = rng.uniform(0.0, 2 * np.pi, nodes)
    time = np.cumsum(rng.exponential(1.0, interactions))
    begins = rng.choice(nodes, interactions, p=activity)
    again, step = rng.random(interactions), drift / nodes**0.5
    chance, shakes = rng.random(interactions), rng.normal(0.0, noise, (interactions, 2 * DIMENSIONS))
    met: list[list[int]] = [[] for _ in range(nodes)]
    j, features = np.empty(interactions, np.int64), np.empty((interactions, 2 * DIMENSIONS))
    for index, i in enumerate(begins):
        angle += rng.normal(0.0, step, nodes)
        if met[i] and again[index] < recency:
            j[index] = met[i][int(chance[index] * len(met[i]))]
        else:
            near = np.exp(8 * (np.cos(angle - angle[i]) - 1))
            near[i] = 0.0
            j[index] = min(int(np.searchsorted(near.cumsum() / near.sum(), chance[index], side="right")), nodes - 1)
        for one, other in ((i, j[index]), (j[index], i)):
            met[one] = [other, *met[one][: RECENT - 1]]
        pair = angle[[i, j[index]]]
        features[index] = np.stack([np.cos(pair), np.sin(pair)], 1).reshape(-1)
    return in_order(begins.astype(np.int64), j, time, features + shakes, nodes)
