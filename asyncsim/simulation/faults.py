"""What interrupts a worker: crashes, recalls and stops."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncsim.streams import Draws, Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.simulation import Simulation
    from asyncsim.simulation.worker import Worker


class Crash(NamedTuple):
    """The worker loses what it does and is back at ``until`` (ns)."""

    until: int


class Signal(NamedTuple):
    """An interrupt that says all by its name."""

    name: str


RECALL = Signal("recall")
STOP = Signal("stop")
Cause = Crash | Signal


def start(sim: Simulation, worker: Worker, streams: Streams) -> None:
    """Start the processes that will interrupt ``worker``, if its profile has any."""
    faults, stop = worker.profile.faults, worker.profile.stop
    if faults is not None:
        up = Draws(streams, "up", (worker.index,), faults.up.for_worker(streams, worker.index).sample)
        down = Draws(streams, "down", (worker.index,), faults.down.for_worker(streams, worker.index).sample)
        sim.env.process(_crashes(sim, worker, up, down))
    if stop is not None:
        sim.env.process(_stops(sim, worker, stop))


def _crashes(sim: Simulation, worker: Worker, up: Draws, down: Draws) -> Generator[Any, Any, None]:
    episode = 0
    while True:
        yield sim.env.timeout(nanoseconds(up[episode]))
        if worker.gone:
            return
        until = sim.env.now + nanoseconds(down[episode])
        worker.process.interrupt(Crash(until))
        yield sim.env.timeout(until - sim.env.now)
        episode += 1


def _stops(sim: Simulation, worker: Worker, at: int) -> Generator[Any, Any, None]:
    yield sim.env.timeout(at)
    if not worker.gone:
        worker.process.interrupt(STOP)
