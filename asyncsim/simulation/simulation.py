"""The event loop: workers, queues and waiting lines in virtual time.

Virtual time is SimPy time in integer nanoseconds. Ties are served in the order in which they were scheduled; only an
interrupt (crash, recall, stop) goes before what is due at the same instant.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from itertools import takewhile
from typing import TYPE_CHECKING, Any

import simpy
from simpy.core import EmptySchedule

from asyncsim.cluster import Cluster
from asyncsim.consistency import Consistency
from asyncsim.errors import Deadlock
from asyncsim.records import EVENT_KINDS, Recorder
from asyncsim.simulation import faults
from asyncsim.simulation.programs import Program
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.simulation.server import Server
from asyncsim.simulation.worker import IDLE, Worker
from asyncsim.streams import Draws, Exhausted, Streams
from asyncsim.units import NANOSECONDS, nanoseconds

if TYPE_CHECKING:
    from asyncsim.engine.futures import Engine, Future
    from asyncsim.policies import Snapshot

WAIT, DOWNLOAD, COMPUTE, UPLOAD, QUEUE, SERVE, DOWN, STOP = range(len(EVENT_KINDS))
STALLED = 1_000_000  # pushes and crashes without an update after which a run is given up


class Simulation:
    """What programs see. Its generator methods are the verbs of a worker: read, compute, upload, push.

    ``engine`` None simulates the timeline alone.
    """

    def __init__(
        self,
        cluster: Cluster,
        program: Program,
        consistency: Consistency,
        server: Server,
        progress: WorkerProgress,
        engine: Engine | None,
        recorder: Recorder,
        streams: Streams,
        message_bytes: float,
    ) -> None:
        self.env = simpy.Environment(initial_time=0)
        self.program = program
        self.consistency = consistency
        self.server = server
        self.progress = progress
        self.engine = engine
        self.recorder = recorder
        self.workers = [Worker(profile, streams, message_bytes) for profile in cluster.worker_profiles()]
        self.over = False
        self.recalled = 0
        self.crashes = 0
        self.waiting: dict[int, simpy.Event] = {}  # in the order in which they came
        self.steps = 0  # events until now: with them the timeline can be brought to the same point again
        self.held: dict[tuple[int, int], tuple[Snapshot, Future | None]] = {}  # by (worker, step), until it arrives
        self._record = recorder.events.append
        self._pulse = consistency.pulse(progress)
        service = cluster.server.service
        self._service = Draws(streams, "service", (), service.sample) if service.expected else None
        self._free_at = 0  # when the server has served all that is in its queue
        self._queued = 0
        self._stalled = max(STALLED, 100 * len(self.workers))
        self._fruitful = (0, 0)  # pushes and crashes when the version last changed
        for worker in self.workers:
            worker.process = self.env.process(self._life(worker))
        for worker in self.workers:
            faults.start(self, worker, streams)
        every = server.evaluation.every_ns
        if every is not None:
            self.env.process(self._evaluations(every))
        if server.length.time is not None:
            self.env.timeout(nanoseconds(server.length.time)).callbacks.append(self._time_is_up)

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
                    self.recorder.breathe()
                    yield self.env.now
        except EmptySchedule:
            raise self._deadlock("nothing more can happen") from None
        yield self.env.now
        self.server.evaluate(self.env.now)

    # What a worker does. Each verb marks what the worker is at, so that an interrupt can record it.

    def read(self, worker: Worker) -> Generator[Any, Any, Snapshot]:
        """Wait until the consistency rule admits the worker, take a snapshot, and carry it over the downlink."""
        index = worker.index
        if self.consistency.blocking and not self.consistency.admits(index, self.progress):
            self._begin(worker, WAIT)
            event = self.waiting[index] = self.env.event()
            self._check_deadlock()
            yield event
            self._end(worker)
        snapshot = self.server.read(index, self.env.now)
        self.held[index, worker.step] = snapshot, None
        worker.version = snapshot.version
        if worker.download is not None:
            self._begin(worker, DOWNLOAD)
            yield self.env.timeout(worker.download(worker.step))
            self._end(worker)
        return snapshot

    def submit(self, worker: Worker, snapshot: Snapshot, program: Program) -> Future | None:
        """The work is determined from here on; nothing is computed yet."""
        if self.engine is None or not self.server.numeric:
            return None
        worker.work = self.engine.submit(program.kernel(snapshot), snapshot.params, worker.index, worker.step)
        self.held[worker.index, worker.step] = snapshot, worker.work
        if worker.work is not None:
            worker.work.snapshot = snapshot
        return worker.work

    def compute(self, worker: Worker, batches: int) -> Generator[Any, Any, None]:
        env = self.env
        start = env.now
        end = worker.finish(start, batches)
        worker.activity, worker.since = COMPUTE, start
        yield env.timeout(end - start)
        self._record((COMPUTE, worker.index, worker.step, worker.version, start, end, True))
        worker.activity = IDLE

    def upload(self, worker: Worker) -> Generator[Any, Any, None]:
        if worker.upload is not None:
            self._begin(worker, UPLOAD)
            yield self.env.timeout(worker.upload(worker.step))
            self._end(worker)

    def push(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> Generator[Any, Any, None]:
        """Deliver a result and wait until the server has applied it. From here on a crash of the worker does not undo it."""
        worker.work = None
        self.progress.sent(worker.index)
        if self._service is None:
            self._arrive(worker, worker.step, snapshot, work)
            return
        now = self.env.now
        begin = max(now, self._free_at)
        self._free_at = begin + nanoseconds(self._service[self.server.pushes + self._queued])
        self._queued += 1
        worker.serve_from = begin
        worker.served = self.env.timeout(self._free_at - now)
        worker.served.callbacks.append(lambda _, step=worker.step: self._served(worker, step, snapshot, work))
        self._begin(worker, QUEUE)
        yield worker.served

    # What happens to workers.

    def _life(self, worker: Worker) -> Generator[Any, Any, None]:
        """Rounds of the program, for ever; an interrupt ends the round, and its cause says what comes before the next."""
        while True:
            try:
                if not worker.up:
                    self._begin(worker, DOWN)
                    yield self.env.timeout(worker.down_until - self.env.now)
                    self._end(worker)
                    worker.up = True
                    self.progress.join(worker.index)
                if worker.served is not None:  # what it pushed before the crash comes first
                    self._begin(worker, QUEUE)
                    yield worker.served
                while True:
                    yield from self.program.round(self, worker)
                    worker.step += 1
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
        if worker.up:
            worker.up = False
            self.progress.leave(worker.index)
        if isinstance(cause, faults.Crash):
            self.crashes += 1
            worker.down_until = cause.until
            self._check_stalled()
        else:
            worker.gone = True
            self._record((STOP, worker.index, worker.step, -1, self.env.now, self.env.now, True))
            if worker.served is None:
                self._depart(worker)
        self._admit()
        self._check_deadlock()
        return worker.gone

    def _depart(self, worker: Worker) -> None:
        """Nothing more will come of a worker that left for good."""
        self.progress.depart(worker.index)
        self._changed(lambda: self.server.settle(self.env.now))
        if not self.over and self.progress.members == 0:
            raise self._deadlock("every worker has left")

    def _abandon(self, worker: Worker) -> None:
        """Record what was done of the current activity and give up the work in flight; it is never computed."""
        if worker.activity != IDLE:
            self._end(worker, complete=False)
        self.waiting.pop(worker.index, None)
        self.progress.sent(worker.index)
        if worker.served is None:
            self.held.pop((worker.index, worker.step), None)
        if worker.work is not None:
            worker.work.cancel()
            worker.work = None
        worker.step += 1

    def _served(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None) -> None:
        self._queued -= 1
        worker.served = None
        if worker.activity == QUEUE:
            self._end(worker)
        self._arrive(worker, step, snapshot, work)
        if worker.gone and not self.over:
            self._depart(worker)
            self._check_deadlock()

    def _arrive(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None) -> None:
        self.held.pop((worker.index, step), None)
        if self.over:
            return
        self._changed(lambda: self.server.arrive(worker.index, step, snapshot, work, self.env.now, worker.up))

    def _changed(self, act: Any) -> None:
        """Let the server act; if that made a new version, end the run, recall, and admit as the rules say."""
        version = self.server.version
        act()
        if self.server.version != version:
            self._fruitful = (self.server.pushes, self.crashes)
            self.over = self.server.finished
            if self.consistency.recalling and not self.over:
                stale = takewhile(lambda index: self.consistency.recalls(index, self.progress), self.progress.in_flight())
                for index in sorted(stale):
                    self.workers[index].process.interrupt(faults.RECALL)
        else:
            self._check_stalled()
        self._admit()

    def _admit(self) -> None:
        """Ask the rule again for the waiting workers, first come first served, if what it looks at has changed."""
        if not self.consistency.blocking:
            return
        pulse = self.consistency.pulse(self.progress)
        if pulse == self._pulse:
            return
        self._pulse = pulse
        for index in [index for index in self.waiting if self.consistency.admits(index, self.progress)]:
            self.waiting.pop(index).succeed()

    def _evaluations(self, every: int) -> Generator[Any, Any, None]:
        while True:
            yield self.env.timeout(every)
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
        if self.waiting and not self.over and len(self.waiting) == self.progress.members and not self._queued:
            raise self._deadlock("every worker waits")

    def _check_stalled(self) -> None:
        pushes, crashes = self.server.pushes - self._fruitful[0], self.crashes - self._fruitful[1]
        if pushes + crashes > self._stalled:
            raise self._deadlock(f"{pushes:,} pushes were buffered or dropped and {crashes:,} crashes happened without an update")

    def _deadlock(self, reason: str) -> Deadlock:
        lines = [f"deadlock at {self.env.now / NANOSECONDS:g} s of virtual time, version {self.server.version}: {reason}"]
        expected: dict[str, list[int]] = {}
        for index in self.waiting:
            expected.setdefault(self.consistency.expects(index, self.progress), []).append(index)
        lines += [f"  {_who(indices)} for {what}" for what, indices in expected.items()]
        gone = [worker.index for worker in self.workers if worker.gone]
        if gone:
            lines.append(f"  gone for good: {_ranges(gone)}")
        held = [len(state["buffer"]) for state in self.server.policy.state["transforms"] if state.get("buffer")]
        if held:
            lines.append(f"  the server holds {held[0]} buffered pushes and waits for more")
        return Deadlock("\n".join(lines))


def _who(indices: list[int]) -> str:
    return f"worker {indices[0]} waits" if len(indices) == 1 else f"workers {_ranges(indices)} wait"


def _ranges(indices: list[int]) -> str:
    """``0-3, 7`` for [0, 1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
