"""The event loop: workers, queues and waiting lines in virtual time.

Virtual time is SimPy time in integer nanoseconds. What happens at one instant is in the order of ``instants.py``; ties within
that are served in the order in which they were scheduled.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import simpy
from simpy.core import EmptySchedule

from asyncsim.cluster import Cluster
from asyncsim.consistency import Consistency
from asyncsim.needs import Need
from asyncsim.records import EVENT_KINDS, Recorder
from asyncsim.simulation import faults
from asyncsim.simulation.clock import Clock, out_of_time
from asyncsim.simulation.closing import Closings
from asyncsim.simulation.collective import exchange
from asyncsim.simulation.deadlocks import deadlock, expected, stuck
from asyncsim.simulation.instants import EVALUATION, LIMIT, RETURN, at
from asyncsim.simulation.metering import Meter
from asyncsim.simulation.network import Network
from asyncsim.simulation.patience import Patience
from asyncsim.simulation.pipeline import Pipeline
from asyncsim.simulation.programs import Program
from asyncsim.simulation.queueing import Queue
from asyncsim.simulation.restarts import Restarts
from asyncsim.simulation.sending import cut_off
from asyncsim.simulation.server import Server
from asyncsim.simulation.worker import IDLE, Costs, Worker
from asyncsim.streams import Exhausted, Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.engine import Engine
    from asyncsim.engine.kernels import Kernel
    from asyncsim.messages import Future, Snapshot

WAIT, DOWNLOAD, COMPUTE, UPLOAD, QUEUE, SERVE, DOWN, STOP, FORWARD, BACKWARD = range(len(EVENT_KINDS))


class Simulation:
    """What programs see. Its generator methods are the verbs of a worker: read, compute, upload, push.

    ``engine`` None simulates the timeline alone. ``progress`` is that of the members of each shard.
    """

    def __init__(
        self,
        cluster: Cluster,
        program: Program,
        consistency: Consistency,
        server: Server,
        engine: Engine | None,
        recorder: Recorder,
        streams: Streams,
        costs: Costs,
    ) -> None:
        self.env = Clock(partial(out_of_time, self))
        self.cluster = cluster
        self.program = program
        self.consistency = consistency
        needs = consistency.needs | program.needs
        self._waits, self._recalls, self.overlapping = (need in needs for need in (Need.WAITS, Need.RECALLS, Need.OVERLAPS))
        self.server = server
        self.progress = [shard.progress for shard in server.shards]
        for progress in self.progress:
            progress.time = partial(getattr, self.env, "now")
        self.engine = engine
        self.recorder = recorder
        self.costs = costs
        self.workers = [Worker(profile, streams, costs) for profile in cluster.worker_profiles()]
        self.network = None
        if cluster.network is not None:
            self.network = Network(self.env, cluster, self.workers, streams, costs, self._waste)
        if cluster.all_reduce is not None:
            exchange(cluster.all_reduce, self.workers, self.progress[0], streams, costs.push_bytes[0])
        self.over = False
        self.recalled = self.crashes = 0
        self.waiting: dict[int, simpy.Event] = {}  # in the order in which they came
        self.steps = 0  # events until now: with them the timeline can be brought to the same point again
        self.held: dict[tuple[int, int], tuple[Snapshot, Future | None]] = {}  # by (worker, step), until it arrives
        self.signals: dict[tuple[int, int], Tensor] = {}  # error signals computed and not used yet, by (worker, batch)
        self.late: dict[tuple[int, int], Tensor] = {}  # what a backward pass under way read when it began, by (worker, batch)
        self.meter = Meter(self, cluster, recorder.events.append) if cluster.priced else None
        server.meter = self.meter
        self._record = recorder.events.append if self.meter is None else self.meter.note
        self._pulses = [consistency.pulse(progress) for progress in self.progress]
        service, failing, stages = cluster.server.service, cluster.server.faults is not None, range(len(self.progress))
        self.queues = [Queue(service, streams, index) for index in stages] if service.expected or failing else None
        self.restarts = Restarts(self, cluster.server, streams) if failing else None
        self.pipeline = Pipeline(self) if len(self.progress) > 1 or Need.PASSES in program.needs else None
        self.patience = Patience(self)
        self.closings = Closings(self) if server.closing else None
        for worker in self.workers:
            if worker.profile.absences and not worker.profile.absences[0][0]:
                self._not_yet(worker)
            worker.process = self.env.process(self._life(worker))
        faults.start(self, cluster, streams)
        if (every := server.evaluation.every_ns) is not None:
            self.env.process(self._evaluations(every))
        if server.length.time is not None:
            at(self.env, LIMIT, nanoseconds(server.length.time)).callbacks.append(self._time_is_up)

    def run(self, due: Callable[[], bool] | None = None) -> Generator[int, None, None]:
        """Run to the end, handing control back now and then (with the virtual time): the caller may report or stop.

        It is handed back too after every event at which ``due`` says so, and after the last one, before the final evaluation.
        Raises ``Deadlock`` if nothing can happen any more, naming who waits for what.
        """
        step = self.env.step
        if not self.steps:
            self.server.evaluate(0)
            self.over = self.server.finished
        try:
            while not self.over:
                step()
                self.steps += 1
                if not self.steps & 0xFF or (due is not None and due()):
                    self.patience.look()
                    self.recorder.breathe()
                    yield self.env.now
        except EmptySchedule:
            raise deadlock(self, "nothing more can happen") from None
        yield self.env.now
        self.server.evaluate(self.env.now)

    # What a worker does. Each verb marks what the worker is at, so that an interrupt can record it.

    def read(self, worker: Worker, version: int | None = None) -> Generator[Any, Any, Snapshot]:
        """Wait until the consistency rule admits the worker, take a snapshot (of an older ``version``, if that is asked for),
        and carry it over the downlink."""
        index = worker.index
        if self._waits and not self._admits(worker):
            self._begin(worker, WAIT)
            event = self.waiting[index] = self.env.event()
            self._check_deadlock()
            yield event
            self._end(worker)
        if self.restarts is not None:
            yield from self.restarts.wait(worker)
        snapshot = self.server.read(index, self.env.now, version)
        self.held[index, worker.step] = snapshot, None
        worker.version = snapshot.version
        if self.network is not None:
            self._begin(worker, DOWNLOAD)
            yield from self.network.download(worker, worker.step)
            self._end(worker)
        elif worker.download is not None:
            self._begin(worker, DOWNLOAD)
            yield self.env.timeout(worker.download(worker.step))
            self._end(worker)
        if self.meter is not None:
            self.meter.downloaded(worker)
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

    def compute(self, worker: Worker, seconds: float, kind: int = COMPUTE) -> Generator[Any, Any, None]:
        """Be busy for that many seconds of full speed."""
        env = self.env
        start = env.now
        end = worker.finish(start, seconds)
        worker.activity, worker.since = kind, start
        yield env.timeout(end - start)
        self._record((kind, worker.index, worker.step, worker.version, start, end, True))
        worker.activity = IDLE

    def wait(self, worker: Worker, event: simpy.Event) -> Generator[Any, Any, None]:
        """Be idle until something happens."""
        self._begin(worker, WAIT)
        yield event
        self._end(worker)

    def upload(self, worker: Worker) -> Generator[Any, Any, None]:
        if self.network is not None:
            self._begin(worker, UPLOAD)
            yield from self.network.upload(worker, worker.step)
            self._end(worker)
        elif worker.upload is not None:
            self._begin(worker, UPLOAD)
            yield self.env.timeout(worker.upload(worker.step))
            self._end(worker)
        if self.meter is not None:
            self.meter.uploaded(worker)

    def push(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> Generator[Any, Any, None]:
        """Deliver a result and wait until the server has applied it. From here on a crash of the worker does not undo it."""
        worker.work, worker.left = None, work
        self.progress[worker.stage].sent(worker.member)
        served = self.deliver(worker, worker.step, snapshot, work)
        if served is not None:
            self._begin(worker, QUEUE)
            yield served

    def deliver(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None) -> simpy.Event | None:
        """A result has reached the server. It is applied at once, or at the event that is returned."""
        if self.queues is None:
            self._arrive(worker, step, snapshot, work)
            return None
        worker.serve_from, done = self.queues[worker.stage].join(self.env.now)
        served = partial(self._served, worker, step, snapshot, work)
        if self.restarts is not None:
            worker.served = self.restarts.serve(worker, done, served)
            return worker.served
        worker.served = self.env.timeout(done - self.env.now)
        worker.served.callbacks.append(served)
        return worker.served

    # What happens to workers.

    def _life(self, worker: Worker) -> Generator[Any, Any, None]:
        """Rounds of the program, for ever; an interrupt ends the round, and its cause says what comes before the next.

        Who comes back begins a round, and only then hears of the crashes that are announced already.
        """
        while True:
            try:
                back = not worker.up
                if back:
                    self._begin(worker, DOWN)
                    yield at(self.env, RETURN, worker.down_until - self.env.now)
                    self._end(worker)
                    worker.up = True
                    if worker.absent:
                        worker.absent = False
                        self.progress[worker.stage].readmit(worker.member)
                    self.progress[worker.stage].join(worker.member)
                if worker.served is not None:  # what it pushed before the crash comes first
                    self._begin(worker, QUEUE)
                    yield worker.served
                while back or not worker.announced:
                    back = False
                    yield from self.program.round(self, worker)
                    worker.step += 1
                self._begin(worker, WAIT)
                yield self.env.event()  # until it goes down
            except simpy.Interrupt as interrupt:
                self._abandon(worker)
                if self._leave(worker, interrupt.cause):
                    return
            except Exhausted:
                self._abandon(worker)
                self._leave(worker, faults.STOP)
                return

    def _leave(self, worker: Worker, cause: faults.Cause) -> bool:
        """Act on an interrupt; True if the worker is gone for good."""
        if cause is faults.RECALL:
            self.recalled += 1
            return False
        if worker.absent and isinstance(cause, faults.Crash):  # it has left at this very instant
            return False
        if worker.up:
            worker.up, worker.left = False, None
            self.server.forget(worker.index)
            self.progress[worker.stage].leave(worker.member)
            cut_off(worker)
        if isinstance(cause, faults.Crash):
            self.crashes += 1
            worker.down_until = max(worker.down_until, cause.until)
            self.patience.check()
        elif isinstance(cause, faults.Absence):
            worker.absent, worker.down_until = True, cause.until
            if worker.served is None:
                self._depart(worker)
        else:
            worker.gone = True
            self._record((STOP, worker.index, worker.step, -1, self.env.now, self.env.now, True))
            if worker.served is None:
                self._depart(worker)
            if self.pipeline is not None:
                self.pipeline.stop(worker)
        self._admit()
        self._check_deadlock()
        return worker.gone

    def _not_yet(self, worker: Worker) -> None:
        """The worker will join later."""
        progress = self.progress[worker.stage]
        worker.up, worker.absent, worker.down_until = False, True, worker.profile.absences[0][1]
        progress.leave(worker.member)
        progress.depart(worker.member)

    def _depart(self, worker: Worker) -> None:
        """Nothing more will come of a worker that left, for good or until it joins again."""
        progress = self.progress[worker.stage]
        progress.depart(worker.member)
        version = progress.version
        self.server.settle(worker.index, self.env.now)
        self._changed(worker.stage, version)
        if not self.over and progress.members == 0 and not expected(self):
            staged = f"the last group has lost its stage {worker.stage + 1}"
            raise deadlock(self, "every worker has left" if self.pipeline is None else staged)

    def _abandon(self, worker: Worker) -> None:
        """Record what was done of the current activity; the program says what becomes of the work in flight."""
        if worker.activity != IDLE:
            self._end(worker, complete=False)
        self.waiting.pop(worker.index, None)
        self.program.abandon(self, worker)

    def give_up(self, worker: Worker) -> None:
        """The work in flight is lost, and never computed."""
        self.progress[worker.stage].sent(worker.member)
        if worker.served is None or self.overlapping:  # else the result of this step is at the server
            self.lose(worker, worker.step)
        if worker.work is not None:
            worker.work.cancel()
            worker.work = None
        worker.step += 1

    def lose(self, worker: Worker, step: int) -> None:
        """The result of a step will not arrive."""
        self.held.pop((worker.index, step), None)

    def _served(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None, _: simpy.Event) -> None:
        self.queues[worker.stage].leave()
        worker.served = None
        if worker.activity == QUEUE:
            self._end(worker)
        self._arrive(worker, step, snapshot, work)
        if (worker.gone or worker.absent) and not self.over:
            self._depart(worker)
            self._check_deadlock()

    def _arrive(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None) -> None:
        self.held.pop((worker.index, step), None)
        if self.over:
            return
        version = self.progress[worker.stage].version
        self.patience.delivered()
        self.server.arrive(worker.index, step, snapshot, work, self.env.now, worker.up)
        self._changed(worker.stage, version)
        if self.closings is not None:
            self.closings.look(worker.stage)

    def _waste(self, worker: Worker) -> None:
        """A copy of a push has come: the server spends its time on it."""
        if self.queues is not None:
            self.queues[worker.stage].waste(self.env.now)

    def _changed(self, stage: int, version: int) -> None:
        """A shard, at ``version`` before, has acted: if that made a new one, end the run, recall, and admit as the rules say."""
        progress = self.progress[stage]
        if progress.version != version:
            self.patience.updated()
            self.over = self.server.finished
            if self._recalls and not self.over:
                for member in sorted(takewhile(lambda each: self.consistency.recalls(each, progress), progress.in_flight())):
                    self.workers[member * len(self.progress) + stage].process.interrupt(faults.RECALL)
        else:
            self.patience.check()
        self._admit()

    def _admit(self) -> None:
        """Ask the rule again for the waiting workers, first come first served, where what it looks at has changed."""
        if not self._waits:
            return
        pulses = [self.consistency.pulse(progress) for progress in self.progress]
        if pulses == self._pulses:
            return
        self._pulses = pulses
        for index in [index for index in self.waiting if self._admits(self.workers[index])]:
            self.waiting.pop(index).succeed()

    def _admits(self, worker: Worker) -> bool:
        return self.consistency.admits(worker.member, self.progress[worker.stage])

    def _evaluations(self, every: int) -> Generator[Any, Any, None]:
        while True:
            yield at(self.env, EVALUATION, every)
            self.server.evaluate(self.env.now)
            self.over = self.over or self.server.finished

    def _time_is_up(self, _: simpy.Event) -> None:
        self.over = True
        self.steps -= 1  # this event belongs to the length of the run, not to what happens in it

    def _begin(self, worker: Worker, activity: int) -> None:
        worker.activity, worker.since = activity, self.env.now

    def _end(self, worker: Worker, complete: bool = True) -> None:
        if worker.activity == QUEUE and self.env.now > worker.serve_from:
            if worker.serve_from > worker.since:
                self._record((QUEUE, worker.index, worker.step, worker.version, worker.since, worker.serve_from, True))
            worker.activity, worker.since = SERVE, max(worker.since, worker.serve_from)
        if self.env.now > worker.since or not complete:
            version = -1 if worker.activity in (WAIT, DOWN) else worker.version
            self._record((worker.activity, worker.index, worker.step, version, worker.since, self.env.now, complete))
        worker.activity = IDLE

    def _check_deadlock(self) -> None:
        if self.waiting and stuck(self):
            raise deadlock(self, "every worker waits")
