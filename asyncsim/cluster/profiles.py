"""The profile of one worker: all that the simulation is told about it."""

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
    """All settings of one worker: defaults, its group's settings and its overrides are merged. Equal workers share one object."""

    worker: int
    group: str
    compute: Delay
    """Its compute time, not bound to its machine yet (see `Delay.for_worker`)."""
    uplink: Link
    downlink: Link
    faults: Faults | None
    """Its crashes; None if it never crashes at random."""
    slowdowns: tuple[Episode, ...]
    """Slowdowns that are listed as events, in order of their starts."""
    stop: int | None
    """The instant (ns) at which it leaves for good."""
    instance: Instance | None = None
    """What its machine costs and draws; None if that is nothing."""

    load: Load | None = None
    outages: tuple[tuple[int, int], ...] = ()
    """Crashes that are listed as events: instant and length (ns), in order of time."""
    absences: tuple[tuple[int, int], ...] = ()
    """The spans (ns) in which it is not in the group, in order of time."""

    def speed(self, streams: Streams) -> Speed:
        """The worker's speed over time: its listed slowdowns and the load, together with the episodes of ``compute``."""
        sources: list[Source] = []
        if self.slowdowns and not self.compute.elapsed:
            sources.append(partial(iter, self.slowdowns))
        if self.load is not None and not self.compute.elapsed:
            sources.append(self.load.episodes)
        if not steady(self.compute):
            sources.append(partial(self.compute.episodes, streams, self.worker))
        return Speed(*sources)
