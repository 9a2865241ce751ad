"""The event loop: the parts of a run in virtual time, from the first event to the last.

Virtual time is SimPy time in integer nanoseconds. What happens at one instant is in the order of ``instants.py``; ties within
that are served in the order in which they were scheduled. What workers do is in ``verbs.py``, what happens to them in
``lives.py``, who may read in ``admission.py``, and what the server does with a result in ``arrivals.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import simpy
from simpy.core import EmptySchedule

from asyncsim.cluster import Cluster
from asyncsim.consistency import Consistency
from asyncsim.exchange import Exchange, RegionalServers
from asyncsim.needs import Need
from asyncsim.records import Recorder
from asyncsim.simulation import faults
from asyncsim.simulation.admission import Admission
from asyncsim.simulation.arrivals import Arrivals
from asyncsim.simulation.clock import Clock
from asyncsim.simulation.deadlocks import deadlock
from asyncsim.simulation.exchanging import Exchanging
from asyncsim.simulation.foresight import Foresight
from asyncsim.simulation.instants import DECISION, EVALUATION, LIMIT, at
from asyncsim.simulation.items import Items
from asyncsim.simulation.lives import Lives
from asyncsim.simulation.machines import Machines
from asyncsim.simulation.metering import Meter
from asyncsim.simulation.out_of_time import out_of_time
from asyncsim.simulation.patience import Patience
from asyncsim.simulation.pipeline import Pipeline
from asyncsim.simulation.programs import Program
from asyncsim.simulation.relays import Relays
from asyncsim.simulation.server import Server
from asyncsim.simulation.spans import Spans
from asyncsim.simulation.stream import Stream
from asyncsim.simulation.transport.collective import AllReduce
from asyncsim.simulation.transport.links import Links
from asyncsim.simulation.transport.shared import SharedPipes
from asyncsim.simulation.transport.transport import Transport
from asyncsim.simulation.verbs import Verbs
from asyncsim.simulation.worker import Costs, Worker
from asyncsim.streams import Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.engine import Engine
    from asyncsim.messages import Future, Snapshot


class Simulation(Verbs):
    """What programs see: the verbs of a worker, and what they act on.

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
        exchange: Exchange | None = None,
        stream: Stream | None = None,
        hierarchy: RegionalServers | None = None,
    ) -> None:
        self.env = Clock(partial(out_of_time, self))
        self.cluster = cluster
        self.program = program
        self.consistency = consistency
        self.overlapping = Need.OVERLAPS in consistency.needs | program.needs
        self.server = server
        self.sized = server.sized
        self.progress = [shard.progress for shard in server.shards]
        for stage, progress in enumerate(self.progress):
            progress.time = partial(getattr, self.env, "now")
            machines = Machines(self, stage)
            progress.power, progress.expected_round = machines.power, machines.expected_round
        self.engine = engine
        self.recorder = recorder
        self.costs = costs
        self.streams = streams
        self.over = False
        self.steps = 0  # events until now: with them the timeline can be brought to the same point again
        self.held: dict[tuple[int, int], tuple[Snapshot, Future | None]] = {}  # by (worker, step), until it arrives
        self.signals: dict[tuple[int, int], Tensor] = {}  # error signals computed and not used yet, by (worker, batch)
        self.late: dict[tuple[int, int], Tensor] = {}  # what a backward pass under way read when it began, by (worker, batch)
        self.workers = [Worker(profile, streams, costs) for profile in cluster.worker_profiles()]
        self.transport: Transport = self._links(streams)
        self.pipes = self.transport if isinstance(self.transport, SharedPipes) else None
        self.observers = server.observers
        self.spans = Spans(self.env, self.observers)
        self.meter = Meter(self, cluster) if cluster.priced else None
        if self.meter is not None:
            self.observers.add(self.meter)
            server.add_columns(self.meter.totals)
        self.admission = Admission(self)
        self.arrivals = Arrivals(self, cluster, streams)
        self.restarts = self.arrivals.restarts
        self.pipeline = Pipeline(self) if len(self.progress) > 1 or Need.PASSES in program.needs else None
        self.exchanging = Exchanging(self, exchange) if exchange is not None and Need.PEERS in exchange.needs else None
        self.items = None if stream is None else Items(self, stream)
        self.relays = None if hierarchy is None else Relays(self, hierarchy, streams)
        if Need.FORESEES in server.needs:
            self.progress[0].foresees = Foresight(self)
        self.lives = Lives(self)
        self.patience = Patience(self)
        self.observers.add(self.patience)
        self._start(streams)

    def _links(self, streams: Streams) -> Transport:
        """What carries messages: pipes that workers share, an all-reduce, or links of each worker's own."""
        cluster = self.cluster
        if cluster.network is not None:
            return SharedPipes(self.env, cluster, self.workers, streams, self.costs, self._receive_copy)
        if cluster.all_reduce is not None:
            return AllReduce(cluster.all_reduce, self.workers, self.progress[0], streams)
        return Links(self.workers, streams, self.costs)

    def _start(self, streams: Streams) -> None:
        """Schedule what happens by itself."""
        for worker in self.workers:
            self.lives.begin(worker)
        faults.start(self, self.cluster, streams)
        if (every := self.server.evaluation.every_ns) is not None:
            self.env.process(self._evaluations(every))
        if (every := self.consistency.clocked) is not None:
            self.env.process(self._decisions(every))
        if self.server.length.time is not None:
            at(self.env, LIMIT, nanoseconds(self.server.length.time)).callbacks.append(self._time_is_up)

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
                    self.recorder.flush()
                    yield self.env.now
        except EmptySchedule:
            raise deadlock(self, "nothing more can happen") from None
        yield self.env.now
        self.server.evaluate(self.env.now)

    @contextmanager
    def standing_in(self, server: Any, engine: Any) -> Iterator[None]:
        """Within it, others stand in for server and engine: those of a replay."""
        own = self.server, self.engine
        self.server, self.engine = server, engine
        try:
            yield
        finally:
            self.server, self.engine = own

    def _receive_copy(self, worker: Worker) -> None:
        self.arrivals.receive_copy(worker)

    def _evaluations(self, every: int) -> Generator[Any, Any, None]:
        while True:
            yield at(self.env, EVALUATION, every)
            self.server.evaluate(self.env.now)
            self.over = self.over or self.server.finished

    def _decisions(self, every: int) -> Generator[Any, Any, None]:
        yield at(self.env, DECISION, 0)
        while True:
            self.admission.decide()
            yield at(self.env, DECISION, every)

    def _time_is_up(self, _: simpy.Event) -> None:
        self.over = True
        self.steps -= 1  # this event belongs to the length of the run, not to what happens in it
