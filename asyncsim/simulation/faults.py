"""The interruptions of a worker: crashes, losses of a zone, maintenance, recalls, absence and stops."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncsim.cluster.outages import Faults, Maintenance, Zones
from asyncsim.errors import UserError
from asyncsim.simulation.instants import ABSENCE, LOSS, NOTICE, STOPPING, at
from asyncsim.streams import Draws, Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    import numpy as np

    from asyncsim.cluster import Cluster, Outages
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker


MOST_AT_ONCE = 10


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


def start(sim: SimulationView, cluster: Cluster, streams: Streams) -> None:
    """Start the processes that will interrupt workers, if there are any."""
    process = sim.env.process
    for worker in sim.workers:
        faults, stop = worker.profile.faults, worker.profile.stop
        if faults is not None:
            process(_crashes(sim, worker, faults, streams))
        for left, until in worker.profile.absences:
            if left:
                process(_absence(sim, worker, left, until))
        for struck, down in worker.profile.outages:
            process(_strike(sim, worker, struck, down, 0))
        if stop is not None:
            process(_stops(sim, worker, stop))
    if cluster.zones is not None:
        for zone, members in enumerate(cluster.zones.members(len(sim.workers))):
            process(_zone(sim, zone, [sim.workers[index] for index in members], cluster.zones, streams))
    for windows in cluster.maintenance or ():
        listed = range(len(sim.workers)) if windows.workers is None else windows.workers
        process(_maintenance(sim, [sim.workers[index] for index in listed], windows))
    for place, source in enumerate(cluster.outages):
        process(_outages(sim, source, streams("outage", place)))


def _outages(sim: SimulationView, source: Outages, rng: np.random.Generator) -> Life:
    """What a source says, for ever or until it ends."""
    last, together = 0, 0
    for outage in source.outages(len(sim.workers), rng):
        at_ns, down, warning = (nanoseconds(each) for each in (outage.at, outage.down, outage.warning))
        notice = max(0, at_ns - warning)
        together = together + 1 if notice == last else 0
        known = 0 <= outage.worker < len(sim.workers) and min(at_ns, down, warning) >= 0
        if not known or notice < last or together > MOST_AT_ONCE * len(sim.workers):
            raise UserError(
                f"cluster.outages: `{source.kind}` gave {outage}; allowed are workers 0 to {len(sim.workers) - 1}, times that "
                f"are not negative, in the order of their notices, and {MOST_AT_ONCE} notices a worker at one instant"
            )
        if notice > last:
            yield at(sim.env, NOTICE if warning else LOSS, notice - last)
        last = notice
        sim.env.process(_strike(sim, sim.workers[outage.worker], at_ns - notice, down, warning))


def _crashes(sim: SimulationView, worker: Worker, faults: Faults, streams: Streams) -> Life:
    assert faults.up is not None
    assert faults.down is not None
    up = Draws(streams, "up", (worker.index,), faults.up.for_worker(streams, worker.index).sample)
    down = Draws(streams, "down", (worker.index,), faults.down.for_worker(streams, worker.index).sample)
    warning, episode = nanoseconds(faults.warning or 0.0), 0
    while not worker.gone:
        length = nanoseconds(down[episode])
        yield from _strike(sim, worker, nanoseconds(up[episode]), length, warning)
        if not worker.gone:
            yield at(sim.env, LOSS, length)
            episode += 1


def _strike(sim: SimulationView, worker: Worker, after: int, down: int, warning: int) -> Life:
    """Take the worker down for ``down`` ns, ``after`` so many ns from now, unless it is absent then.

    The crash is announced to it ``warning`` ns before, or at once if less time is left. A worker that is down or absent when
    a crash is announced learns of it when it returns.
    """
    if warning:
        early = max(0, after - warning)
        if early:
            yield at(sim.env, NOTICE, early)
        worker.announced += 1
        yield at(sim.env, LOSS, after - early)
        worker.announced -= 1
    else:
        yield at(sim.env, LOSS, after)
    if not worker.gone and not worker.absent:
        worker.interrupt(Crash(sim.env.now + down))


def _zone(sim: SimulationView, zone: int, workers: list[Worker], zones: Zones, streams: Streams) -> Life:
    """The events that take workers of one zone down together, one after the other, until all its workers have left for good."""
    gaps = Draws(streams, "zone gap", (zone,), zones.gap.sample)
    spread, warning, event = nanoseconds(zones.spread), nanoseconds(zones.warning or 0.0), 0
    while True:
        yield at(sim.env, LOSS, max(1, nanoseconds(gaps[event])))
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
        yield at(sim.env, LOSS, ends)
        if all(worker.gone for worker in workers):
            return
        event += 1


def _maintenance(sim: SimulationView, workers: list[Worker], windows: Maintenance) -> Life:
    every, duration, warning = (nanoseconds(each) for each in (windows.every, windows.duration, windows.warning or 0.0))
    first = every if windows.first is None else nanoseconds(windows.first)
    begin = max(0, first - warning)
    if begin:
        yield at(sim.env, LOSS, begin)
    after = first - begin
    while not all(worker.gone for worker in workers):
        for worker in workers:
            sim.env.process(_strike(sim, worker, after, duration, warning))
        yield at(sim.env, LOSS, every - (warning - after))
        after = warning


def _absence(sim: SimulationView, worker: Worker, leaves: int, until: int) -> Life:
    yield at(sim.env, ABSENCE, leaves)
    if not worker.gone:
        worker.interrupt(Absence(until))


def _stops(sim: SimulationView, worker: Worker, leaves: int) -> Life:
    yield at(sim.env, STOPPING, leaves)
    if not worker.gone:
        worker.interrupt(STOP)
