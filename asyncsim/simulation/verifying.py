"""Laws that every run obeys, checked while it goes on (`--verify`). If one is broken, the simulator or a plugin has a bug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncsim.errors import UserError
from asyncsim.records.rows import EVENT_KINDS, OUTCOMES
from asyncsim.simulation.peers import CLOSE

if TYPE_CHECKING:
    from asyncsim.messages import Snapshot
    from asyncsim.records.rows import SpanRow
    from asyncsim.simulation.simulation import Simulation
    from asyncsim.simulation.worker import Worker

COMPUTE, STOP = EVENT_KINDS.index("compute"), EVENT_KINDS.index("stop")
DROPPED = OUTCOMES.index("dropped")
AT_THE_SERVER = {EVENT_KINDS.index(kind) for kind in ("queue", "serve")}
MOVING = AT_THE_SERVER | {EVENT_KINDS.index(kind) for kind in ("upload", "download")}


class LawBroken(UserError):
    """A run has broken a law that no run can break: the simulator or a plugin has a bug."""


class Verifier:
    """An observer that checks what it is told, from here on.

    - Time: a span ends when it is recorded, and not before it starts; a worker does one thing at a time (it may move data and
      compute); a completed compute span of a whole round lasts exactly as long as its draw takes at the machine's speed.
    - Work: an arrival was read before, once; its staleness is the versions since that read, and not negative; nobody computes
      after it has left for good.
    - Counts: an arrival makes one version or none; at the end applied, buffered and dropped pushes are all pushes, and what was
      read has arrived, was lost, or is in flight.
    - Weights: what workers that exchange hold, and what is on its way between them, adds up to their number.
    - Room: a queue is as long as what has been sent and not arrived; a channel never holds more than it may.
    """

    def __init__(self, sim: Simulation) -> None:
        self.sim = sim
        self.ends: dict[tuple[int, bool], int] = {}  # (worker, moving data) -> when its last span ended
        self.left = {worker.index for worker in sim.workers if worker.gone}
        self.reads = {key: value[0].version for key, value in sim.held.items()}  # (worker, step) -> version, until it arrives
        self.outcomes = dict.fromkeys(range(len(OUTCOMES)), 0)
        self.before = sim.server.pushes, sim.server.dropped
        self.versions: dict[int, int] = {}  # of a worker's shard, before the push that is looked at
        self.whole = sim.pipeline is None and sim.program.computes_at_once
        sim.observers.add(self)

    def span(self, row: SpanRow) -> None:
        kind, worker, start, end = row.kind, row.worker, row.start_ns, row.end_ns
        if not 0 <= start <= end <= self.sim.env.now:
            self._broken("a span starts, ends and is recorded in this order", row)
        lane = worker, kind in MOVING
        if start < self.ends.get(lane, 0):
            self._broken("a worker does one thing at a time", row)
        self.ends[lane] = end
        if worker in self.left and kind not in AT_THE_SERVER:
            self._broken("nothing happens at a worker that has left for good", row)
        if kind == STOP:
            self.left.add(worker)
        if kind == COMPUTE and row.complete and self.whole:
            at = self.sim.workers[worker]
            due = at.finish(start, at.seconds(self.sim.program.batches))
            if end != due:
                self._broken(f"work begun at {start} ns is done at {due} ns", row)

    def read(self, worker: Worker, snapshot: Snapshot) -> None:
        if worker.index in self.left:
            self._broken("nobody reads who has left for good", (worker.index, self.sim.env.now))
        if snapshot.version > self.sim.progress[worker.stage].version:
            self._broken("a snapshot is not newer than its shard", snapshot[1:])
        self.reads[worker.index, worker.step] = snapshot.version

    def arriving(self, worker: Worker, step: int, snapshot: Snapshot) -> None:
        read = self.reads.pop((worker.index, step), None)
        if read != snapshot.version:
            self._broken("what arrives was read before, once", (worker.index, step, snapshot.version, read))
        self.versions[worker.index] = self.sim.progress[worker.stage].version

    def arrival(self, row: Any) -> None:
        before = self.versions[row.worker]
        if not 0 <= row.version - before <= 1:
            self._broken("an arrival makes one version or none", (row.worker, row.step))
        self.outcomes[row.outcome] += 1
        if not row.staleness == before - row.read_version >= 0:
            self._broken("staleness is the versions since the read", row)

    def lost(self, worker: Worker, step: int) -> None:
        self.reads.pop((worker.index, step), None)

    def finish(self) -> None:
        """Check at the end of the run that all counts add up."""
        sim, staged = self.sim, self.sim.pipeline is not None
        pushes, dropped = sim.server.pushes - self.before[0], sim.server.dropped - self.before[1]
        recorded = sum(self.outcomes.values())
        if not (recorded == pushes or (staged and recorded < pushes)):  # a stage that is done ignores the rest
            self._broken("a push has an outcome", (recorded, pushes))
        if self.outcomes[DROPPED] != dropped:
            self._broken("drops are counted", (self.outcomes, dropped))
        missing = [key for key in self.reads if key not in sim.held and key[0] not in self.left]
        if missing:
            self._broken("what was read has arrived, was lost, or is in flight", missing[:5])
        if sim.exchanging is not None and abs(sim.server.peers.weight - len(sim.workers)) > CLOSE:
            self._broken("the weights of what workers hold and send add up to their number", sim.server.peers.weight)
        for channel in sim.pipeline.channels() if sim.pipeline is not None and staged else ():
            if channel.fullest > channel.capacity:
                self._broken("a channel holds no more than it may", channel.fullest)

    def same_decisions(self, plan: Simulation) -> None:
        """Check that simulating the timeline without numbers leads to the same decisions. If not, a part looks at numbers and
        has not declared it."""
        for _ in plan.run():
            pass
        mine, planned = self.sim.server.decisions, plan.server.decisions
        if mine != planned:
            first = next((at for at, pair in enumerate(zip(mine, planned, strict=False)) if pair[0] != pair[1]), None)
            at = f"arrival {first}" if first is not None else f"the end ({len(mine)} arrivals, {len(planned)} planned)"
            self._broken("a plan decides what the run decides; does a part of the method need Need.VALUES?", at)

    def _broken(self, law: str, what: Any) -> None:
        raise LawBroken(f"a law is broken at {self.sim.env.now} ns of virtual time: {law}; but: {what}")
