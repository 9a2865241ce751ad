"""Persistent stragglers: a worker that is now and then slow for a while."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import count

import numpy as np

from asyncsim.cluster.delays import Delay, LastingDelay, SteadyDelay, delays
from asyncsim.cluster.fields import Positive
from asyncsim.cluster.speed import Episode
from asyncsim.streams import Draws, Streams
from asyncsim.units import nanoseconds


@delays.register("two_state")
class TwoState(Delay):
    """A worker alternates between normal and slow, where its work takes ``factor`` times longer; it begins normal.

    ``base`` is the time of one batch at full speed, ``normal`` and ``slow`` are the times spent in a state. A state may
    change within a batch. With p = E[slow] / (E[normal] + E[slow]) the worker does (1 - p) + p / factor batches in the
    time of one, on the long run, so ``expected = base.expected / ((1 - p) + p / factor)``.

    Stragglers of non-dedicated clouds persist, which no distribution of independent draws shows. The model is ours.
    """

    base: SteadyDelay
    factor: Positive
    normal: LastingDelay
    slow: LastingDelay

    @property
    def expected(self) -> float:
        return self.base.expected * self.slowdown

    @property
    def slowdown(self) -> float:
        normal, slow = self.normal.expected, self.slow.expected
        if math.isinf(slow):
            return math.inf if math.isinf(normal) else self.factor
        share = slow / (normal + slow)
        return 1 / ((1 - share) + share / self.factor)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.base.sample(rng, size)

    def for_worker(self, streams: Streams, worker: int) -> Delay:
        parts = {name: getattr(self, name).for_worker(streams, worker) for name in ("base", "normal", "slow")}
        return self.model_copy(update=parts)

    def episodes(self, streams: Streams, worker: int) -> Iterator[Episode]:
        """The slow spans. Times in a state are drawn from streams keyed by (worker, block of episodes); each lasts at least 1
        ns."""
        normal = Draws(streams, "normal_for", (worker,), self.normal.sample)
        slow = Draws(streams, "slow_for", (worker,), self.slow.sample)
        end = 0
        for index in count():
            start = end + max(1, nanoseconds(normal[index]))
            end = start + max(1, nanoseconds(slow[index]))
            yield Episode(start, end, self.factor)
