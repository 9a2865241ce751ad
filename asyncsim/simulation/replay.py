"""Replay the timeline up to a checkpoint. Decisions are read from the checkpoint instead of being made, and nothing is
computed.

Generators cannot be saved, but the same scenario gives the same events again. What a policy decided (applied, buffered,
dropped) stands in the checkpoint, with one byte for each arrival, so it does not matter what the policy looked at. The
snapshots and futures that workers held at the checkpoint are handed out when they are read, and submitted again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from simpy.core import EmptySchedule

from asyncsim.errors import Deadlock
from asyncsim.messages import Snapshot
from asyncsim.simulation.server import APPLIED, NOTHING

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Future
    from asyncsim.simulation.simulation import Simulation

Held = tuple[int, int]
"""The (worker, step) of work that a worker has begun."""


class OtherTimeline(Exception):
    """The replayed timeline is not the one of the checkpoint."""


class StandIn:
    """Stands in for server and engine while ``sim`` is replayed.

    ``recorded`` is what the server noted of its doings: its ``decisions``, what a consistency rule has ``seen``, and when
    groups of pushes were to be closed (``closings``), and the ``sizes`` of what was sent, each in the order of asking.
    ``submit(kernel, snapshot parameters, worker, step)`` gives the future of work that was alive at the checkpoint, or None.
    ``late`` has the parameters of backward passes that were under way.
    ``finished``: the decisions end with the run.
    """

    numeric = True

    def __init__(
        self,
        sim: Simulation,
        recorded: Mapping[str, Any],
        snapshots: Mapping[Held, Snapshot],
        late: Mapping[Held, Tensor],
        submit: Callable[..., Future | None],
        finished: bool,
    ) -> None:
        self.sim = sim
        self.decisions: bytes | bytearray = recorded["decisions"]
        self.snapshots = snapshots
        self.late = late
        self.submit = submit
        self.versions = [0] * len(sim.progress)  # of the shards
        self.pushes = 0
        self.shards = sim.server.shards
        self.length = sim.server.length
        self.num_workers = sim.server.num_workers
        self._decided = 0
        self._closings = iter(recorded["closings"])
        self._seen = iter(recorded["seen"])
        self._sizes = iter(recorded["sizes"])
        self._finished = finished

    @property
    def finished(self) -> bool:
        return self._finished and self._decided == len(self.decisions)

    @property
    def version(self) -> int:
        return min(self.versions)

    def read(self, worker: int, now: int, version: int | None = None) -> Snapshot:
        at = self.sim.workers[worker]
        share = self.sim.progress[at.stage].read(at.member)
        held = self.snapshots.get((worker, at.step))
        version = self.versions[at.stage] if version is None else version
        if held is None or (held.version, held.time) != (version, now):  # a pass that was cut short reads again
            return Snapshot(None, version, now, 1.0, share=share)
        return held

    def current(self, worker: int) -> Tensor | None:
        return self.late.get((worker, self.sim.workers[worker].step))

    def receive(self, worker: int, step: int, snapshot: Snapshot, work: Any, now: int, up: bool = True) -> None:
        self.pushes += 1
        at = self.sim.workers[worker]
        if self._next() != NOTHING:
            progress = self.sim.progress[at.stage]
            seen = math.nan if progress.sees is None else next(self._seen, math.nan)
            if progress.sees == "loss":
                progress.seen = seen
            progress.push(at.member, snapshot.version, up, now)
            progress.seen = seen
        self._decide(at.stage)

    def depart(self, worker: int, step: int, snapshot: Snapshot, work: Any, now: int) -> float:
        size = next(self._sizes, None)
        if size is None:
            raise OtherTimeline("more results are sent than there were")
        return size

    def lose(self, worker: int, step: int) -> None:
        """What was under way at the end stands in the checkpoint."""

    @property
    def peers(self) -> StandIn:
        return self

    def set_out(self, worker: int, number: int, partners: tuple[int, ...]) -> None:
        """Do nothing: what workers hold, and what is on its way between them, stands in the checkpoint."""

    def meet(self, worker: int, partner: int, number: int) -> None:
        """Do nothing, for the same reason."""

    def take_back(self, worker: int) -> None:
        """Do nothing, for the same reason."""

    @property
    def hierarchy(self) -> StandIn:
        return self

    def relay(self, region: int) -> None:
        """Do nothing, for the same reason."""

    def reach(self, region: int, now: int) -> None:
        """Do nothing, for the same reason."""

    def merge(self, region: int) -> None:
        """Do nothing, for the same reason."""

    def forget(self, worker: int) -> None:
        """Do nothing: what is left of the worker's state stands in the checkpoint."""

    def settle(self, worker: int, now: int) -> None:
        self._decide(self.sim.workers[worker].stage)

    def launched(self, worker: int, step: int, snapshot: Snapshot, work: Any, now: int) -> None:
        self._decide(self.sim.workers[worker].stage)

    def closes(self, stage: int) -> int | None:
        due = next(self._closings, -1)
        return None if due < 0 else due

    def close(self, stage: int, now: int) -> None:
        self._decide(stage)

    def save(self) -> None:
        """Do nothing: what the server saved last stands in the checkpoint."""

    def crash(self) -> None:
        """Do nothing: what the crash left stands in the checkpoint."""

    def restart(self, now: int) -> None:
        self._advance(0)

    def predict(self, item: int) -> None:
        """Do nothing: what has been predicted stands in the checkpoint."""

    def evaluate(self, now: int) -> None:
        """Do nothing: the row of the evaluation stands in the checkpoint."""

    def _next(self) -> int:
        if self._decided == len(self.decisions):
            raise OtherTimeline("more results arrive than there were decisions")
        return self.decisions[self._decided]

    def _decide(self, stage: int) -> None:
        if self._next() == APPLIED:
            self._advance(stage)
        self._decided += 1

    def _advance(self, stage: int) -> None:
        self.versions[stage] += 1
        self.sim.progress[stage].version = self.versions[stage]


def replay(sim: Simulation, stand_in: StandIn, steps: int) -> None:
    """Bring ``sim`` to the point after ``steps`` events; its server and engine are left as they are.

    Raises ``OtherTimeline`` if that cannot be the point at which the decisions end.
    """
    try:
        with sim.standing_in(stand_in, stand_in):
            for count in range(steps):
                sim.steps = count
                sim.env.step()
                if not count & 0xFFF:
                    sim.recorder.flush(to_disk=False)
    except (Deadlock, EmptySchedule) as error:
        raise OtherTimeline(str(error) or "nothing more happens") from None
    sim.steps = steps
    if stand_in._decided != len(stand_in.decisions):
        raise OtherTimeline(f"{len(stand_in.decisions)} decisions, of which {stand_in._decided} were asked for")
