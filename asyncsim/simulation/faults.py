"""The interruptions of a worker: crashes, losses of a zone, maintenance, recalls, absence and stops."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncsim.cluster.outages import Faults, Maintenance, Zones
from asyncsim.streams import Draws, Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.cluster import Cluster
    from asyncsim.simulation.simulation import Simulation
    from asyncsim.simulation.worker import Worker


class Crash(NamedTuple):
    """The worker loses what it does, and is back at the time ``until`` (ns)."""

    until: int


class Absence(NamedTuple):
    """The worker leaves the group, loses what it does, and joins the group again at the time ``until`` (ns)."""

    until: int


class Signal(NamedTuple):
    """An interrupt that needs no more information than its name."""

    name: str


RECALL = Signal("recall")
STOP = Signal("stop")
Cause = Crash | Absence | Signal
Life = Generator[Any, Any, None]


def start(sim: Simulation, cluster: Cluster, streams: Streams) -> None:
    """Start the processes that will interrupt workers, if there are any."""
    process = sim.env.process
    for worker in sim.workers:
        faults, stop = worker.profile.faults, worker.profile.stop
        if faults is not None:
            process(_crashes(sim, worker, faults, streams))
        for at, until in worker.profile.absences:
            if at:
                process(_absence(sim, worker, at, until))
        for at, down in worker.profile.outages:
            process(_strike(sim, worker, at, down, 0))
        if stop is not None:
            process(_stops(sim, worker, stop))
    if cluster.zones is not None:
        for zone, members in enumerate(cluster.zones.members(len(sim.workers))):
            process(_zone(sim, zone, [sim.workers[index] for index in members], cluster.zones, streams))
    for windows in cluster.maintenance or ():
        listed = range(len(sim.workers)) if windows.workers is None else windows.workers
        process(_maintenance(sim, [sim.workers[index] for index in listed], windows))


def _crashes(sim: Simulation, worker: Worker, faults: Faults, streams: Streams) -> Life:
    up = Draws(streams, "up", (worker.index,), faults.up.for_worker(streams, worker.index).sample)
    down = Draws(streams, "down", (worker.index,), faults.down.for_worker(streams, worker.index).sample)
    warning, episode = nanoseconds(faults.warning or 0.0), 0
    while not worker.gone:
        length = nanoseconds(down[episode])
        yield from _strike(sim, worker, nanoseconds(up[episode]), length, warning)
        if worker.gone:
            return
        yield sim.env.timeout(length)
        episode += 1


def _strike(sim: Simulation, worker: Worker, after: int, down: int, warning: int) -> Life:
    """Take the worker down for ``down`` ns, ``after`` so many ns from now.

    It is warned ``warning`` ns before that, or at once if less time is left: it then begins no new work. A worker that is
    down or absent at that moment is not warned. One that is absent, or has left for good, when the time comes is not taken
    down.
    """
    if warning and after:
        notice = max(0, after - warning)
        if notice:
            yield sim.env.timeout(notice)
        worker.warned = worker.up
        after -= notice
    yield sim.env.timeout(after)
    if not worker.gone and not worker.absent:
        worker.process.interrupt(Crash(sim.env.now + down))


def _zone(sim: Simulation, zone: int, workers: list[Worker], zones: Zones, streams: Streams) -> Life:
    """The events that take workers of one zone down together, one after the other, until all its workers have left for good."""
    gaps = Draws(streams, "zone gap", (zone,), zones.gap.sample)
    spread, warning, event = nanoseconds(zones.spread), nanoseconds(zones.warning or 0.0), 0
    while True:
        yield sim.env.timeout(max(1, nanoseconds(gaps[event])))
        there = [worker for worker in workers if worker.up]
        rng = streams("zone", zone, event)
        whole, downs = rng.random() < zones.whole, zones.down.sample(rng, len(workers))
        lost = len(there) if whole or len(there) < 2 else int(rng.integers(1, len(there)))
        chosen = sorted(rng.permutation(len(there))[:lost].tolist())
        offsets = rng.integers(0, spread + 1, len(workers)).tolist()
        ends = 0
        for place in chosen:
            after, down = warning + offsets[place], nanoseconds(downs[place])
            ends = max(ends, after + down)
            sim.env.process(_strike(sim, there[place], after, down, warning))
        yield sim.env.timeout(ends)
        if all(worker.gone for worker in workers):
            return
        event += 1


def _maintenance(sim: Simulation, workers: list[Worker], windows: Maintenance) -> Life:
    every, duration, warning = (nanoseconds(each) for each in (windows.every, windows.duration, windows.warning or 0.0))
    first = every if windows.first is None else nanoseconds(windows.first)
    begin = max(0, first - warning)
    if begin:
        yield sim.env.timeout(begin)
    after = first - begin
    while not all(worker.gone for worker in workers):
        for worker in workers:
            sim.env.process(_strike(sim, worker, after, duration, warning))
        yield sim.env.timeout(every - (warning - after))
        after = warning


def _absence(sim: Simulation, worker: Worker, at: int, until: int) -> Life:
    yield sim.env.timeout(at)
    if not worker.gone:
        worker.process.interrupt(Absence(until))


def _stops(sim: Simulation, worker: Worker, at: int) -> Life:
    yield sim.env.timeout(at)
    if not worker.gone:
        worker.process.interrupt(STOP)
