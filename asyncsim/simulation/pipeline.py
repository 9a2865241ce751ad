"""The stages of all groups, and the channels between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from asyncsim.simulation import faults
from asyncsim.simulation.channels import Channel, Meeting, Place

if TYPE_CHECKING:
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker


class Pipeline:
    """The places and channels of all groups. Worker ``s * K + k`` is stage ``k`` of group ``s``."""

    def __init__(self, sim: SimulationView) -> None:
        self.sim = sim
        stages = len(sim.progress)
        self.stopped: set[int] = set()  # first workers of groups that have left for good
        self.places: list[Place] = []
        for _ in range(0, len(sim.workers), stages):
            self.places += self._group(stages)

    def _group(self, stages: int) -> Iterator[Place]:
        env = self.sim.env
        program: Any = self.sim.program  # one of stages: it has an order and a queue
        meeting = Meeting(env, stages)
        up, down = ([Channel(env, program.queue) for _ in range(stages - 1)] for _ in range(2))
        at: Callable[[list[Channel], int], Channel | None] = lambda channels, k: channels[k] if 0 <= k < stages - 1 else None  # noqa: E731
        for k in range(stages):
            actions = program.order.actions(k, stages, program.num_micro_batches)
            yield Place(actions, next(actions), meeting, at(up, k - 1), at(up, k), at(down, k), at(down, k - 1))

    def channels(self) -> list[Channel]:
        """All channels, each of them once."""
        return [channel for place in self.places for channel in (place.above, place.answers) if channel is not None]

    def stop(self, worker: Worker) -> None:
        """Called when a worker has left for good. Its whole group leaves with it, and what the group holds is lost."""
        sim, stages = self.sim, len(self.sim.progress)
        first = worker.index - worker.stage
        for batch in self.places[worker.index].stash:
            sim.held.pop((worker.index, batch), None)
            sim.late.pop((worker.index, batch), None)
        if first in self.stopped:
            return
        self.stopped.add(first)
        for mate in sim.workers[first : first + stages]:
            if not mate.gone:
                mate.interrupt(faults.STOP)
