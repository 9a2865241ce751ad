"""The verbs of a worker: what a program lets it do. Each marks what the worker is at, so that an interrupt can record it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from asyncsim.simulation.activities import COMPUTE, DOWNLOAD, IDLE, QUEUE, UPLOAD, WAIT
from asyncsim.simulation.observers import nobody
from asyncsim.simulation.transport.transport import DOWN, UP
from asyncsim.simulation.view import SimulationView

if TYPE_CHECKING:
    import simpy

    from asyncsim.engine.kernels import Kernel
    from asyncsim.messages import Future, Snapshot
    from asyncsim.simulation.transport.transport import Passage
    from asyncsim.simulation.worker import Worker


class Verbs(SimulationView):
    """Read, compute, upload, push, in the order that a program gives them; ``Simulation`` has the parts that they act on."""

    def read(self, worker: Worker, version: int | None = None, again: bool = False) -> Generator[Any, Any, Snapshot]:
        """Wait until the consistency rule admits the worker, take a snapshot (of an older ``version``, if that is asked for),
        and carry it over the downlink; ``again``: the worker has this version still, and nothing travels."""
        admitted = self.admission.join(worker) if self.admission.asks else None
        if admitted is not None:
            self.spans.begin(worker, WAIT)
            yield admitted
            self.spans.end(worker)
        if self.restarts is not None and not again:
            yield from self.restarts.wait(worker)
        index = worker.index
        snapshot = self.server.read(index, self.env.now, version)
        self.held[index, worker.step] = snapshot, None
        worker.version = snapshot.version
        worker.part = 1.0 if snapshot.share == 1.0 else self.costs.part(snapshot.share)
        observers = self.observers
        observers.read(worker, snapshot)
        if again or (self.transport.free and observers.sent is nobody):
            return snapshot
        nbytes = (self.costs.message_bytes[worker.stage] or 0.0) * worker.part
        passage = self.transport.carry(worker, worker.step, DOWN, nbytes)
        if passage is not None:
            self.spans.begin(worker, DOWNLOAD)
            yield from self.passing(passage)
            self.spans.end(worker)
        observers.sent(worker, DOWN, nbytes)
        return snapshot

    def submit(self, worker: Worker, snapshot: Snapshot, kernel: Callable[[Snapshot], Kernel]) -> Future | None:
        """The work is determined from here on; nothing is computed yet."""
        if self.engine is None or not self.server.numeric:
            return None
        work = worker.work = self.engine.submit(kernel(snapshot), snapshot.params, worker.index, worker.step, worker.left)
        self.held[worker.index, worker.step] = snapshot, work
        if work is not None:
            work.snapshot = snapshot
        return work

    def compute(
        self, worker: Worker, seconds: float | Fraction, kind: int = COMPUTE, limit: int | None = None
    ) -> Generator[Any, Any, bool]:
        """Be busy for that many seconds of full speed, but not longer than ``limit`` (ns). Returns whether it is done."""
        env = self.env
        start = env.now
        end = worker.finish(start, seconds)
        done = limit is None or end - start <= limit
        end = end if done else start + limit  # type: ignore[operator]  # there is one
        worker.activity, worker.since = kind, start
        yield env.timeout(end - start)
        self.observers.span((kind, worker.index, worker.step, worker.version, start, end, done))
        worker.activity = IDLE
        if done and worker.pace is not None:
            batches, took = worker.measured
            worker.measured = batches + worker.pace[1], took + end - start
        return done

    def wait(self, worker: Worker, event: simpy.Event) -> Generator[Any, Any, None]:
        """Be idle until something happens."""
        self.spans.begin(worker, WAIT)
        yield event
        self.spans.end(worker)

    def upload(self, worker: Worker, behind: int | None = None) -> Generator[Any, Any, None]:
        """Carry the result of the worker's step to the server; or that of the step ``behind``, in the background: the worker does
        something else meanwhile, and no span shows it."""
        if self.transport.free and self.observers.sent is nobody and not self.sized:
            return
        step = worker.step if behind is None else behind
        nbytes = (self.costs.push_bytes[worker.stage] or 0.0) * worker.part
        if self.sized:
            nbytes = self.server.depart(worker.index, step, *self.held[worker.index, step], self.env.now)
        passage = self.transport.carry(worker, step, UP, nbytes)
        if passage is not None and behind is None:
            self.spans.begin(worker, UPLOAD)
            yield from self.passing(passage)
            self.spans.end(worker)
        elif passage is not None:
            yield from self.passing(passage)
        self.observers.sent(worker, UP, nbytes)

    def passing(self, passage: Passage) -> Iterable[Any]:
        """The events of a passage."""
        return (self.env.timeout(passage),) if isinstance(passage, int) else passage

    def launches(self, worker: Worker) -> bool:
        """Does the worker go on while its result is sent?"""
        overlapping = self.overlapping and self.exchanging is None
        return overlapping and self.consistency.launches(worker.member, self.progress[worker.stage])

    def push(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> Generator[Any, Any, None]:
        """Deliver a result and wait until the server has applied it. From here on a crash of the worker does not undo it. Where
        workers exchange, it is applied to the worker's own parameters, and they exchange before or after it."""
        if self.exchanging is not None:
            yield from self.exchanging.push(worker, snapshot, work)
        else:
            yield from self.deliver(worker, snapshot, work)

    def deliver(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> Generator[Any, Any, None]:
        """Deliver a result, and nothing else."""
        worker.work, worker.left = None, work
        self.progress[worker.stage].sent(worker.member)
        served = self.arrivals.deliver(worker, worker.step, snapshot, work)
        if served is not None:
            self.spans.begin(worker, QUEUE)
            yield served

    def give_up(self, worker: Worker) -> None:
        """The work in flight is lost, and never computed."""
        self.progress[worker.stage].sent(worker.member)
        if worker.served is None or worker.sending is not None:  # else the result of this step is at the server
            self.lose(worker, worker.step)
        if worker.work is not None:
            worker.work.cancel()
            worker.work = None
        worker.step += 1
        if self.exchanging is not None:
            self.exchanging.give_up(worker)

    def lose(self, worker: Worker, step: int) -> None:
        """The result of a step will not arrive."""
        self.held.pop((worker.index, step), None)
        self.server.lose(worker.index, step)
        self.observers.lost(worker, step)
