"""What becomes of a result at the server: it queues, is served, and may make an update that ends the run or lets others read."""

from __future__ import annotations

from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

from asyncsim.needs import Need
from asyncsim.simulation import faults
from asyncsim.simulation.activities import QUEUE
from asyncsim.simulation.closing import Closings
from asyncsim.simulation.queueing import Queue
from asyncsim.simulation.restarts import Restarts

if TYPE_CHECKING:
    import simpy

    from asyncsim.cluster import Cluster
    from asyncsim.messages import Future, Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker
    from asyncsim.streams import Streams


class Arrivals:
    """The server's side of ``sim`` in time: ``queues`` where receiving takes time, ``restarts`` where the server crashes, and
    ``closings`` where groups of pushes have a time of their own."""

    def __init__(self, sim: Verbs, cluster: Cluster, streams: Streams) -> None:
        self._sim = sim
        self._recalls = Need.RECALLS in sim.consistency.needs | sim.program.needs
        service, failing, stages = cluster.server.service, cluster.server.faults is not None, range(len(sim.progress))
        self.queues = [Queue(service, streams, index) for index in stages] if service.expected or failing else []
        self.restarts = Restarts(sim, cluster.server, streams) if failing else None
        self.closings = Closings(sim) if Need.CLOSES in sim.server.needs else None
        self._told = Need.LAUNCHES in sim.server.needs

    def deliver(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None) -> simpy.Event | None:
        """A result has reached the server. It is applied at once, or at the event that is returned."""
        if not self.queues:
            self._apply(worker, step, snapshot, work)
            return None
        now = self._sim.env.now
        worker.serve_from, done = self.queues[worker.stage].join(now)
        served = partial(self._served, worker, step, snapshot, work)
        if self.restarts is not None:
            worker.served = self.restarts.serve(worker, done, served)
            return worker.served
        worker.served = self._sim.env.timeout(done - now)
        worker.served.callbacks.append(served)
        return worker.served

    def receive_copy(self, worker: Worker) -> None:
        """A copy of a push has come: the server spends its time on it."""
        if self.queues:
            self.queues[worker.stage].waste(self._sim.env.now)

    def launched(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> None:
        """A result sets out while its worker goes on. Where the policy is told of it, that may make an update."""
        sim, progress = self._sim, self._sim.progress[worker.stage]
        if self._told and not sim.over:
            version = progress.version
            sim.server.launched(worker.index, worker.step, snapshot, work, sim.env.now)
            if progress.version != version:
                self.changed(worker.stage, version)

    def changed(self, stage: int, version: int) -> None:
        """A shard, at ``version`` before, has acted: if that made a new one, end the run, recall, and admit as the rules say."""
        sim = self._sim
        progress = sim.progress[stage]
        if progress.version != version:
            sim.observers.acted(stage, True)
            sim.over = sim.server.finished
            if self._recalls and not sim.over:
                for member in sorted(takewhile(lambda each: sim.consistency.recalls(each, progress), progress.in_flight())):
                    sim.workers[member * len(sim.progress) + stage].interrupt(faults.RECALL)
        else:
            sim.observers.acted(stage, False)
        sim.admission.ask_again()

    def _served(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None, _: simpy.Event) -> None:
        sim = self._sim
        self.queues[worker.stage].leave()
        worker.served = None
        if worker.activity == QUEUE:
            sim.spans.end(worker)
        self._apply(worker, step, snapshot, work)
        if (worker.gone or worker.absent) and not sim.over:
            sim.lives.depart(worker)
            sim.admission.check_deadlock()

    def _apply(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None) -> None:
        sim = self._sim
        sim.held.pop((worker.index, step), None)
        if sim.over:
            return
        progress = sim.progress[worker.stage]
        version = progress.version
        sim.observers.arriving(worker, step, snapshot)
        sim.server.receive(worker.index, step, snapshot, work, sim.env.now, worker.up)
        worker.due = worker.due or progress.version != version
        if sim.relays is not None and progress.version != version:
            sim.relays.updated(worker)
        self.changed(worker.stage, version)
        if self.closings is not None:
            self.closings.look(worker.stage)
