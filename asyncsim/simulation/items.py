"""The items of a stream as they arrive: each is predicted, and then taken by a worker that is free, or by nobody."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from asyncsim.simulation.instants import ITEM, TAKING, at
from asyncsim.simulation.shard import Shard
from asyncsim.simulation.stream import Stream
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker


class Items:
    """The items of a run as they arrive. ``taken`` counts those with which a worker has begun."""

    def __init__(self, sim: Verbs, stream: Stream) -> None:
        self._sim = sim
        self._period = nanoseconds(stream.period)
        self._turns = stream.turns or sim.progress[0].num_workers
        self._next = [0] * len(sim.workers)  # by worker: the first item that it has not been given yet
        self.taken = 0
        sim.server.streams = True
        sim.env.process(self._arrive())

    def _arrive(self) -> Generator[Any, Any, None]:
        item = 0
        while True:
            yield at(self._sim.env, ITEM, item * self._period - self._sim.env.now)
            self._sim.server.predict(item)
            item += 1

    def take(self, worker: Worker) -> Generator[Any, Any, int]:
        """Wait for the worker's next item, which becomes its step. What has arrived while it was busy has passed."""
        sim = self._sim
        first = max(-(-sim.env.now // self._period), self._next[worker.index])
        item = first + (worker.member - first) % self._turns
        yield from sim.wait(worker, at(sim.env, TAKING, item * self._period - sim.env.now))
        worker.step = item
        self._next[worker.index] = item + 1
        self.taken += 1
        return item

    def summary(self) -> dict[str, int | float | None]:
        """What has become of the items, over all stages: ``items_learnt`` by the stage that has learnt most, and the mean over
        the stages of the adaptation rate."""
        server = self._sim.server
        learnt = [shard.learnt for shard in server.shards if isinstance(shard, Shard)]
        return {
            "items": server.items, "items_taken": self.taken, "items_learnt": max(items for items, _ in learnt),
            "adaptation_rate": math.fsum(worth for _, worth in learnt) / len(learnt) / server.items if server.items else None,
        }  # fmt: skip
