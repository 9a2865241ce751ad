"""When pushes will arrive that are computed or sent now, which a simulation knows and a real server does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.simulation.activities import COMPUTE, DOWNLOAD, UPLOAD
from asyncsim.simulation.transport.transport import DOWN, UP
from asyncsim.streams import Exhausted

if TYPE_CHECKING:
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker


class Foresight:
    """Will a push arrive by a given time (ns), if no crash prevents it? That follows from what the workers of ``sim`` are at,
    where a round is computed in one span, links are a worker's own, and the server takes no time."""

    def __init__(self, sim: SimulationView) -> None:
        self._sim = sim

    def __call__(self, until: int) -> bool:
        return any(due <= until for worker in self._sim.workers if (due := self._due(worker)) is not None)

    def _due(self, worker: Worker) -> int | None:
        """When the push of this round arrives; None where the worker is neither computing nor on its way."""
        now = worker.since
        if worker.activity == DOWNLOAD:
            now += self._way(worker, DOWN)
        elif worker.activity not in (COMPUTE, UPLOAD):
            return None
        if worker.activity != UPLOAD:
            try:
                now = worker.finish(now, worker.seconds(self._sim.program.batches))
            except Exhausted:  # it will leave instead
                return None
        return now + self._way(worker, UP)

    def _way(self, worker: Worker, purpose: str) -> int:
        costs = self._sim.costs
        nbytes = (costs.push_bytes if purpose == UP else costs.message_bytes)[worker.stage] or 0.0
        passage = self._sim.transport.carry(worker, worker.step, purpose, nbytes)
        assert passage is None or isinstance(passage, int), "links of its own"
        return passage or 0
