"""What the simulation is told about one worker."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from asyncsim.cluster.delays import Delay, steady
from asyncsim.cluster.links import Link
from asyncsim.cluster.load import Load
from asyncsim.cluster.outages import Faults
from asyncsim.cluster.prices import Instance
from asyncsim.cluster.speed import Episode, Source, Speed
from asyncsim.streams import Streams


class WorkerProfile(NamedTuple):
    """One worker, resolved: defaults, group and overrides are merged. Equal workers share their objects."""

    index: int
    group: str
    compute: Delay
    """Not yet bound to the machine: see `Delay.for_worker`."""
    uplink: Link
    downlink: Link
    faults: Faults | None
    """None: it never crashes."""
    slowdowns: tuple[Episode, ...]
    """One-shot slowdowns, by start."""
    stop: int | None
    """The instant (ns) at which it leaves for good."""
    instance: Instance | None = None
    """What it costs and draws; None: nothing."""

    load: Load | None = None
    outages: tuple[tuple[int, int], ...] = ()
    """When it crashes, and for how long (ns), by time."""
    absences: tuple[tuple[int, int], ...] = ()
    """From when until when (ns) it is not in the group, by time."""

    def speed(self, streams: Streams) -> Speed:
        """One-shot slowdowns and the load, together with the episodes of ``compute``."""
        sources: list[Source] = []
        if self.slowdowns and not self.compute.elapsed:
            sources.append(partial(iter, self.slowdowns))
        if self.load is not None and not self.compute.elapsed:
            sources.append(self.load.episodes)
        if not steady(self.compute):
            sources.append(partial(self.compute.episodes, streams, self.index))
        return Speed(*sources)
