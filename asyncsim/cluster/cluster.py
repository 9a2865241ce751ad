"""The scenario's section ``cluster``: who computes, over which links, and what goes wrong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise
from operator import attrgetter
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from asyncsim.cluster.delays import ComputeDelay, Delay
from asyncsim.cluster.fields import MAX_WORKERS, WorkerCount, WorkerIndex
from asyncsim.cluster.foreground import Foreground
from asyncsim.cluster.happenings import Event, Script
from asyncsim.cluster.links import Link, ServerSpec
from asyncsim.cluster.load import Load
from asyncsim.cluster.machines import GammaHomogeneous
from asyncsim.cluster.network import Network, networks
from asyncsim.cluster.outage_sources import Outages
from asyncsim.cluster.outage_sources import outages as outage_sources
from asyncsim.cluster.outages import Faults, Maintenance, Zones
from asyncsim.cluster.phones import Phone
from asyncsim.cluster.prices import AnInstance
from asyncsim.cluster.profiles import WorkerProfile
from asyncsim.cluster.speed import Episode
from asyncsim.registry import Problem, Spec, located
from asyncsim.units import nanoseconds

DEFAULT_WORKERS = 8


class Override(Spec):
    """Settings that differ for one worker or one group.

    A field that is left out is inherited; one that is given replaces the whole field: ``uplink: {}`` is a link that costs no
    time, and ``faults: {}`` a worker that never crashes.
    """

    compute: ComputeDelay | None = None
    uplink: Link | None = None
    downlink: Link | None = None
    faults: Faults | None = None
    load: Load | None = None
    instance: AnInstance | None = None
    foreground: Foreground | None = None


class Group(Override):
    """A number of equal workers. Their indices follow those of the group before."""

    name: str = Field(min_length=1)
    workers: WorkerCount


class Cluster(Spec):
    """The fleet. ``workers``, or ``groups`` that inherit ``compute``, ``uplink``, ``downlink`` and ``faults`` and may override
    them; ``overrides`` by worker come last. Eight equal workers if nothing is said. ``network`` is what their links share;
    ``all_reduce`` takes the place of messages to the server, for methods in rounds. ``script`` adds to ``events``;
    ``outages`` are sources of a kind of one's own.

    Raises:
        pydantic.ValidationError: with one located line per problem.
    """

    workers: WorkerCount | None = None
    compute: ComputeDelay = GammaHomogeneous(mean=1.0)
    uplink: Link = Link()
    downlink: Link = Link()
    server: ServerSpec = ServerSpec()
    faults: Faults | None = None
    groups: tuple[Group, ...] = ()
    overrides: dict[WorkerIndex, Override] = Field(default_factory=dict)
    events: tuple[Event, ...] = ()
    network: Annotated[Network, networks] | None = None
    all_reduce: Literal["ring", "tree"] | None = None
    load: Load | None = None
    zones: Zones | None = None
    maintenance: tuple[Maintenance, ...] | None = None
    outages: tuple[Annotated[Outages, outage_sources], ...] = ()
    script: Script | None = None
    instance: AnInstance | None = None
    foreground: Foreground | None = None

    @model_validator(mode="before")
    @classmethod
    def _some_workers(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("workers") is None and not data.get("groups"):
            return {**data, "workers": DEFAULT_WORKERS}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Cluster:
        problems = [*self._wrong_groups(), *self._wrong_workers(), *self._wrong_network(), *self._wrong_order()]
        problems += [] if problems else self._wrong_machines()
        if problems:
            raise located("cluster", problems)
        return self

    def _wrong_groups(self) -> Iterator[Problem]:
        total = sum(group.workers for group in self.groups)
        if self.groups and self.workers is not None:
            yield ("workers",), self.workers, f"give `workers` or `groups`, not both; the groups hold {total} workers"
        if total > MAX_WORKERS:
            yield ("groups",), total, f"{total:,} workers; allowed are 1 to {MAX_WORKERS:,}"
        names: set[str] = set()
        for place, group in enumerate(self.groups):
            if group.name in names:
                message = f"{group.name!r} is taken; allowed is a name that no group before has"
                yield ("groups", place, "name"), group.name, message
            names.add(group.name)

    def _wrong_workers(self) -> Iterator[Problem]:
        num_workers = self.num_workers
        named: list[tuple[tuple[str | int, ...], int]] = [(("overrides", worker), worker) for worker in self.overrides]
        for place, event in enumerate(self.events):
            named += [(("events", place, "workers", nth), worker) for nth, worker in enumerate(event.workers)]
        for event in self.script.events if self.script else ():
            named += [(("script", "file"), worker) for worker in event.workers]
        for place, windows in enumerate(self.maintenance or ()):
            named += [(("maintenance", place, "workers", nth), worker) for nth, worker in enumerate(windows.workers or ())]
        for where, worker in named:
            if worker >= num_workers:
                yield where, worker, f"there is no worker {worker}; allowed are 0 to {num_workers - 1}"

    def _wrong_machines(self) -> Iterator[Problem]:
        """Applications are those of phones."""
        places: list[tuple[str | int, ...]] = [] if self.foreground is None else [("foreground",)]
        places += [("groups", place, "foreground") for place, group in enumerate(self.groups) if group.foreground is not None]
        places += [("overrides", worker, "foreground") for worker, its in self.overrides.items() if its.foreground is not None]
        for profile in self.worker_profiles() if places else ():
            if profile.foreground is not None and not isinstance(profile.instance, Phone):
                machine = "no `instance`" if profile.instance is None else f"`{profile.instance.kind}`, which is no phone"
                message = f"worker {profile.worker} has {machine}; allowed are phones, such as `instance: pixel_2`"
                yield places[0], None, message
                return

    def _wrong_order(self) -> Iterator[Problem]:
        """Leaving and joining take turns."""
        if self.zones is not None:
            for where, value, message in self.zones.problems(self.num_workers):
                yield ("zones", *where), value, message
        for place, source in enumerate(self.outages):
            for where, value, message in source.problems(self.num_workers):
                yield ("outages", place, *where), value, message
        for worker, events in self._by_worker().items():
            turns = [event for event in events if event.leave or event.join]
            for before, after in pairwise(turns):
                if bool(before.join) == bool(after.join) or before.at == after.at:
                    which = "join" if after.join else "leave"
                    message = f"worker {worker} would {which} twice, or join and leave at once; leaving and joining take turns"
                    yield ("events" if after in self.events else "script",), which, message

    def _wrong_network(self) -> Iterator[Problem]:
        if self.all_reduce is not None and self.server.faults is not None:
            message = "there is no server in an all-reduce, so none can fail; leave this out"
            yield ("server", "faults"), None, message
        if self.network is None:
            return
        for where, value, message in self.network.problems(self.num_workers):
            yield ("network", *where), value, message
        if self.all_reduce is not None:
            message = "workers exchange gradients with each other, not with a server; leave `network` out"
            yield ("all_reduce",), self.all_reduce, message

    @property
    def priced(self) -> bool:
        """Does any machine have a price or a power, so that costs have to be counted?"""
        owners: tuple[Cluster | ServerSpec | Override, ...] = (self, self.server, *self.groups, *self.overrides.values())
        return any(owner.instance is not None for owner in owners)

    @property
    def num_workers(self) -> int:
        return sum(group.workers for group in self.groups) if self.groups else self.workers or 0

    def profile(self, worker: int) -> WorkerProfile:
        """The profile of one worker.

        Raises:
            IndexError: there is no such worker.
        """
        if not 0 <= worker < self.num_workers:
            raise IndexError(f"there is no worker {worker}; allowed are 0 to {self.num_workers - 1}")
        ends = list(accumulate(group.workers for group in self.groups))
        group = self.groups[bisect_right(ends, worker)] if ends else None
        events = self._by_worker().get(worker, [])
        return self._special(self._common(group)._replace(worker=worker), events)

    def worker_profiles(self) -> tuple[WorkerProfile, ...]:
        """The profiles of all workers, by index. It takes about 0.1 s for 100,000 workers."""
        profiles: list[WorkerProfile] = []
        for group in self.groups or (None,):
            common = self._common(group)[1:]
            first = len(profiles)
            size = self.num_workers if group is None else group.workers
            profiles.extend(WorkerProfile._make((worker, *common)) for worker in range(first, first + size))
        special: dict[int, list[Event]] = {worker: [] for worker in self.overrides} | self._by_worker()
        for worker, events in special.items():
            profiles[worker] = self._special(profiles[worker], events)
        return tuple(profiles)

    def _by_worker(self) -> dict[int, list[Event]]:
        """The events of each worker that has any, in order of time."""
        found: dict[int, list[Event]] = {}
        for event in sorted((*self.events, *(self.script.events if self.script else ())), key=attrgetter("at")):
            for worker in event.workers:
                found.setdefault(worker, []).append(event)
        return found

    @property
    def elastic(self) -> bool:
        """Does any worker join after the start?"""
        return any(event.join for event in (*self.events, *(self.script.events if self.script else ())))

    @property
    def losing(self) -> bool:
        """Can anything take a worker away from its work (a crash, a departure, maintenance), or do workers differ in that?"""
        sources = (self.faults, self.groups, self.overrides, self.events, self.zones, self.maintenance, self.outages, self.script)
        return any(sources)

    def _common(self, group: Group | None) -> WorkerProfile:
        faults = self.faults if self.faults and self.faults.up is not None else None
        profile = WorkerProfile(
            0, "all", self.compute, self.uplink, self.downlink, faults, (), None, self.instance, self.load,
            foreground=self.foreground,
        )  # fmt: skip
        return profile if group is None else _merged(profile._replace(group=group.name), group)

    def _special(self, profile: WorkerProfile, events: list[Event]) -> WorkerProfile:
        if profile.worker in self.overrides:
            profile = _merged(profile, self.overrides[profile.worker])
        slowdowns = tuple(_episode(event) for event in events if event.slowdown is not None)
        stops = [nanoseconds(event.at) for event in events if event.stop]
        turns = [event for event in events if event.leave or event.join]
        if turns and turns[-1].leave:
            stops.append(nanoseconds(turns[-1].at))  # for good, as it does not join again
        outages = tuple((nanoseconds(event.at), nanoseconds(event.down)) for event in events if event.down is not None)
        return profile._replace(
            slowdowns=slowdowns, stop=min(stops, default=None), outages=outages, absences=tuple(_absences(turns))
        )


def _absences(turns: list[Event]) -> Iterator[tuple[int, int]]:
    """From when until when (ns) a worker that will join is not in the group, given when it leaves and joins."""
    gone = 0
    for event in turns:
        if event.join:
            yield gone, nanoseconds(event.at)
        gone = nanoseconds(event.at)


def _merged(profile: WorkerProfile, override: Override) -> WorkerProfile:
    compute: Delay = override.compute or profile.compute
    faults = profile.faults
    if override.faults is not None:
        faults = override.faults if override.faults.up is not None else None
    return profile._replace(
        compute=compute, uplink=override.uplink or profile.uplink, downlink=override.downlink or profile.downlink, faults=faults,
        instance=override.instance or profile.instance, load=override.load or profile.load,
        foreground=override.foreground or profile.foreground,
    )


def _episode(event: Event) -> Episode:
    start = nanoseconds(event.at)
    assert event.slowdown is not None
    return Episode(start, None if event.duration is None else start + max(1, nanoseconds(event.duration)), event.slowdown)
