"""What the parts of a simulation see of it, and of each other. `simulation.py` makes them all. None of them needs to know more of
another than stands here, so no two of them import each other."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import simpy
    from torch import Tensor

    from asyncsim.cluster import Cluster
    from asyncsim.consistency import Consistency
    from asyncsim.engine.engine import Engine
    from asyncsim.messages import Future, Snapshot
    from asyncsim.needs import Need
    from asyncsim.records import Recorder
    from asyncsim.simulation.channels import Channel, Place
    from asyncsim.simulation.clock import Clock
    from asyncsim.simulation.observers import Observers
    from asyncsim.simulation.progress import WorkerProgress
    from asyncsim.simulation.queueing import Queue
    from asyncsim.simulation.server import Server
    from asyncsim.simulation.spans import Spans
    from asyncsim.simulation.transport.transport import Transport
    from asyncsim.simulation.worker import Costs, Worker
    from asyncsim.streams import Streams

    Events = Generator[Any, Any, None]


class ProgramView(Protocol):
    """What workers do: the program."""

    @property
    def needs(self) -> Need: ...

    @property
    def computes_at_once(self) -> bool: ...

    @property
    def num_micro_batches(self) -> int: ...

    @property
    def batches(self) -> int: ...

    def period(self, compute: float, /) -> float: ...

    def round(self, sim: Any, worker: Worker, /) -> Events: ...

    def abandon(self, sim: Any, worker: Worker, /) -> None: ...


class Waiting(Protocol):
    """Who waits to read or to send: `Admission`."""

    asks: bool
    waiting: dict[int, simpy.Event]

    def join(self, worker: Worker, to_send: bool = False) -> simpy.Event | None: ...

    def leave(self, worker: Worker) -> None: ...

    def ask_again(self) -> None: ...

    def decide(self) -> None: ...

    def check_deadlock(self) -> None: ...


class Closing(Protocol):
    """Groups of pushes that have a time of their own: `Closings`."""

    @property
    def pending(self) -> bool: ...


class Restarting(Protocol):
    """A server that crashes: `Restarts`."""

    count: int
    lost_updates: int

    def wait(self, worker: Worker) -> Events: ...


class Receiving(Protocol):
    """The server's side: `Arrivals`."""

    queues: list[Queue]

    @property
    def restarts(self) -> Restarting | None: ...

    @property
    def closings(self) -> Closing | None: ...

    def deliver(self, worker: Worker, step: int, snapshot: Snapshot, work: Future | None) -> simpy.Event | None: ...

    def receive_copy(self, worker: Worker) -> None: ...

    def launched(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> None: ...

    def changed(self, stage: int, version: int) -> None: ...


class Living(Protocol):
    """What interrupts workers, and how they come back: `Lives`."""

    recalled: int
    crashes: int

    def begin(self, worker: Worker) -> None: ...

    def depart(self, worker: Worker) -> None: ...


class Staged(Protocol):
    """The stages of all groups: `Pipeline`."""

    places: list[Place]

    def channels(self) -> list[Channel]: ...

    def stop(self, worker: Worker) -> None: ...


class Giving(Protocol):
    """What workers give each other: `Exchanging`."""

    def push(self, worker: Worker, snapshot: Snapshot, work: Future | None) -> Events: ...

    def give_up(self, worker: Worker) -> None: ...


class Learning(Protocol):
    """The items of a stream: `Items`."""

    def take(self, worker: Worker) -> Generator[Any, Any, int]: ...

    def summary(self) -> dict[str, Any]: ...


class Relaying(Protocol):
    """Messages between regional servers and a global one: `Relays`."""

    def updated(self, worker: Worker) -> None: ...


class SimulationView:
    """The parts of a simulation, and what they share."""

    env: Clock
    cluster: Cluster
    program: ProgramView
    consistency: Consistency
    server: Server
    engine: Engine | None
    recorder: Recorder
    costs: Costs
    streams: Streams
    observers: Observers
    spans: Spans
    transport: Transport
    workers: list[Worker]
    progress: list[WorkerProgress]
    """Of the members of each shard."""
    admission: Waiting
    arrivals: Receiving
    restarts: Restarting | None
    lives: Living
    pipeline: Staged | None
    exchanging: Giving | None
    items: Learning | None
    relays: Relaying | None
    overlapping: bool
    sized: bool
    over: bool
    steps: int
    """Events until now: with them the timeline can be brought to the same point again."""
    held: dict[tuple[int, int], tuple[Snapshot, Future | None]]
    """What workers have read, and what is computed on it, by (worker, step), until it arrives."""
    signals: dict[tuple[int, int], Tensor]
    """Error signals computed and not used yet, by (worker, batch)."""
    late: dict[tuple[int, int], Tensor]
    """What a backward pass under way read when it began, by (worker, batch)."""
