"""Who met whom before: batches of a stream of interactions as a temporal graph network is asked about them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from asyncsim.streams import Streams
from asyncsim.tasks.data.interactions import Interactions
from asyncsim.tasks.models.tgn import Links

CHUNK = 512
"""Nodes whose likeness to all others is looked at in one go."""


class Partners:
    """The last ``recent`` meetings of every node before each interaction. Those of the same instant do not count.

    Meetings are sorted by node, then by time, so that those of a node before an instant are found by bisection."""

    def __init__(self, data: Interactions, recent: int) -> None:
        size = data.size
        nodes, others = np.concatenate([data.i, data.j]), np.concatenate([data.j, data.i])
        event = np.tile(np.arange(size), 2)
        order = np.lexsort((event, nodes))
        self._keys = (nodes * (size + 1) + event)[order]
        self._others, self._event = others[order], event[order]
        self._before = np.searchsorted(data.time, data.time, side="left")  # interactions before the instant of each
        self._size, self._recent = size, recent

    def of(self, ends: np.ndarray, event: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The partners of ``ends`` before the interactions ``event``, both of one shape ``S``, the newest first: nodes, numbers
        of the interactions in which they met, and whether there is one, shape ``(*S, R)`` each."""
        start = np.searchsorted(self._keys, ends * (self._size + 1))
        stop = np.searchsorted(self._keys, ends * (self._size + 1) + self._before[event])
        place = stop[..., None] - 1 - np.arange(self._recent)
        known = place >= start[..., None]
        place = np.where(known, place, 0)
        return np.where(known, self._others[place], ends[..., None]), self._event[place], known


def alike(data: Interactions, train: int, count: int) -> np.ndarray:
    """The nodes with the largest share of common partners (Jaccard) in the first ``train`` interactions, shape ``(N, count)``; of
    equal ones the smaller number. -1 where no other node has a common partner."""
    from scipy.sparse import csr_array

    i, j = data.i[:train], data.j[:train]
    pairs = csr_array((np.ones(2 * train), (np.concatenate([i, j]), np.concatenate([j, i]))), shape=(data.nodes, data.nodes))
    pairs.data[:] = 1.0
    degrees = pairs.sum(axis=1)
    found = np.full((data.nodes, count), -1)
    for first in range(0, data.nodes, CHUNK):
        rows = np.arange(first, min(first + CHUNK, data.nodes))
        common = (pairs[rows] @ pairs.T).toarray()
        share = common / np.maximum(degrees[rows][:, None] + degrees - common, 1)
        share[np.arange(len(rows)), rows] = 0
        best = np.argsort(-share, axis=1, kind="stable")[:, :count]
        found[rows, : best.shape[1]] = np.where(np.take_along_axis(share, best, 1) > 0, best, -1)
    return found


class Stream:
    """The interactions of a stream as batches in order of time. ``size`` interactions are learnt from, in ``epoch`` batches, and
    then again from the first.

    A pair that did not interact is ``i`` with a node drawn evenly from all that are ever ``j``, anew for every (worker, step)
    from ``streams("negative", worker, step)``.
    """

    def __init__(
        self, data: Interactions, recent: int, train: int, batch: int, streams: Streams, device: str, dtype: torch.dtype
    ) -> None:
        self.batch_size, self.epoch = batch, train // batch
        self.size = self.epoch * batch
        self.data, self.device, self.dtype = data, device, dtype
        self._partners = Partners(data, recent)
        self._targets = np.unique(data.j)
        self._streams = streams

    def batch(self, worker: int, step: int) -> tuple[Links, Tensor]:
        """The batch of (worker, step) and what is to be told, 1 for interactions and 0 for the other pairs, shape ``(2 B,)``."""
        first = step % self.epoch * self.batch_size
        return self.between(first, first + self.batch_size, self._streams("negative", worker, step))

    def between(self, first: int, last: int, rng: np.random.Generator) -> tuple[Links, Tensor]:
        """The interactions ``first`` to ``last`` (excluded), of whose nodes nothing is known yet."""
        data, event = self.data, np.arange(first, last)
        other = self._targets[rng.integers(len(self._targets), size=last - first)]
        ends = np.stack([data.i[event], data.j[event], other])
        partners, meetings, known = self._partners.of(ends, np.broadcast_to(event, ends.shape))
        nodes, places = np.unique(np.concatenate([ends.reshape(-1), partners.reshape(-1)]), return_inverse=True)
        ages = np.where(known, data.time[event][:, None] - data.time[meetings], 0.0)
        links = data.features[meetings] * known[..., None]
        numbers = (data.time[event], data.features[event], ages, links)
        time, features, ages_, links_ = (torch.from_numpy(each).to(self.device, self.dtype) for each in numbers)
        whole = (nodes, places[: ends.size].reshape(ends.shape), places[ends.size :].reshape(partners.shape), known)
        nodes_, ends_, neighbours, known_ = (torch.from_numpy(each).to(self.device) for each in whole)
        targets = torch.zeros(2 * len(event), device=self.device, dtype=self.dtype)
        targets[: len(event)] = 1
        return Links(nodes_, time.new_empty(0), ends_, time, features, neighbours, ages_, known_, links_), targets

    def calibration(self) -> list[Tensor]:
        return []
