"""The profile of one worker: all that the simulation is told about it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from asyncsim.cluster.delays import Delay, steady
from asyncsim.cluster.foreground import Foreground, Usage
from asyncsim.cluster.links import Link
from asyncsim.cluster.load import Load
from asyncsim.cluster.outages import Faults
from asyncsim.cluster.phones import Phone
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

    foreground: Foreground | None = None
    """The applications that its user opens, where its machine is a phone."""

    def speed(self, streams: Streams) -> Speed:
        """The worker's speed over time: its listed slowdowns, the load and the applications, together with the episodes of
        ``compute``."""
        sources: list[Source] = []
        if self.slowdowns and not self.compute.elapsed:
            sources.append(partial(iter, self.slowdowns))
        if self.load is not None and not self.compute.elapsed:
            sources.append(self.load.episodes)
        if self.foreground is not None and isinstance(self.instance, Phone) and not self.compute.elapsed:
            sources.append(partial(self.foreground.episodes, self.instance, streams, self.worker))
        if not steady(self.compute):
            sources.append(partial(self.compute.episodes, streams, self.worker))
        return Speed(*sources)

    def usage(self, streams: Streams) -> Usage | None:
        """What its machine shows over time; None if that is no phone, or nobody uses it."""
        if self.foreground is None or not isinstance(self.instance, Phone):
            return None
        return Usage(self.foreground.sessions(self.instance, streams, self.worker))
