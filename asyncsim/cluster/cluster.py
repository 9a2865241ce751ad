"""The scenario's section ``cluster``: who computes, over which links, and what goes wrong."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Any

from pydantic import Field, model_validator

from asyncsim.cluster.delays import ComputeDelay, Delay
from asyncsim.cluster.fields import MAX_WORKERS, Positive, Several, WorkerCount, WorkerIndex
from asyncsim.cluster.links import Faults, Link, Server
from asyncsim.cluster.machines import GammaHomogeneous
from asyncsim.cluster.profiles import WorkerProfile
from asyncsim.cluster.speed import Episode
from asyncsim.registry import Problem, Spec, located
from asyncsim.units import PositiveSeconds, Seconds, nanoseconds

DEFAULT_WORKERS = 8


class Override(Spec):
    """What differs for one worker or one group. A field that is left out is inherited, one that is given replaces the whole:
    ``uplink: {}`` is a free link, ``faults: {}`` a worker that never crashes."""

    compute: ComputeDelay | None = None
    uplink: Link | None = None
    downlink: Link | None = None
    faults: Faults | None = None


class Group(Override):
    """Some equal workers. Their indices follow those of the group before."""

    name: str = Field(min_length=1)
    workers: WorkerCount


class Event(Spec):
    """Something that happens once, to the listed workers: a slowdown for ``duration`` (absent: for ever), or a stop for good."""

    at: Seconds
    workers: Several[WorkerIndex]
    slowdown: Positive | None = None
    duration: PositiveSeconds | None = None
    stop: bool = False

    @model_validator(mode="after")
    def _one_thing(self) -> Event:
        if self.stop == (self.slowdown is not None):
            raise ValueError(f"an event is `slowdown: <factor>` or `stop: true`; given {'both' if self.stop else 'neither'}")
        if self.stop and self.duration is not None:
            message = "a stop is for good; `duration` is allowed only with `slowdown`"
            raise located("event", [(("duration",), self.duration, message)])
        if len(set(self.workers)) < len(self.workers):
            message = "a worker is listed twice; allowed is each worker once"
            raise located("event", [(("workers",), list(self.workers), message)])
        return self


class Cluster(Spec):
    """The fleet. ``workers``, or ``groups`` that inherit ``compute``, ``uplink``, ``downlink`` and ``faults`` and may override
    them; ``overrides`` by worker come last. Eight equal workers if nothing is said.

    Raises:
        pydantic.ValidationError: with one located line per problem.
    """

    workers: WorkerCount | None = None
    compute: ComputeDelay = GammaHomogeneous(mean=1.0)
    uplink: Link = Link()
    downlink: Link = Link()
    server: Server = Server()
    faults: Faults | None = None
    groups: tuple[Group, ...] = ()
    overrides: dict[WorkerIndex, Override] = Field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _some_workers(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data.get("workers") is None and not data.get("groups"):
            return {**data, "workers": DEFAULT_WORKERS}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Cluster:
        problems = [*self._wrong_groups(), *self._wrong_workers()]
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
        for where, worker in named:
            if worker >= num_workers:
                yield where, worker, f"there is no worker {worker}; allowed are 0 to {num_workers - 1}"

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
        events = [event for event in self.events if worker in event.workers]
        return self._special(self._common(group)._replace(index=worker), events)

    def worker_profiles(self) -> tuple[WorkerProfile, ...]:
        """All profiles, by index: about 0.1 s for 100,000 workers."""
        profiles: list[WorkerProfile] = []
        for group in self.groups or (None,):
            _, *common = self._common(group)
            first = len(profiles)
            size = self.num_workers if group is None else group.workers
            profiles.extend(WorkerProfile(index, *common) for index in range(first, first + size))
        special: dict[int, list[Event]] = {worker: [] for worker in self.overrides}
        for event in self.events:
            for worker in event.workers:
                special.setdefault(worker, []).append(event)
        for worker, events in special.items():
            profiles[worker] = self._special(profiles[worker], events)
        return tuple(profiles)

    def _common(self, group: Group | None) -> WorkerProfile:
        faults = self.faults if self.faults and self.faults.up is not None else None
        profile = WorkerProfile(0, "all", self.compute, self.uplink, self.downlink, faults, (), None)
        return profile if group is None else _merged(profile._replace(group=group.name), group)

    def _special(self, profile: WorkerProfile, events: list[Event]) -> WorkerProfile:
        if profile.index in self.overrides:
            profile = _merged(profile, self.overrides[profile.index])
        slowdowns = tuple(sorted((_episode(event) for event in events if not event.stop), key=lambda episode: episode.start))
        stops = [nanoseconds(event.at) for event in events if event.stop]
        return profile._replace(slowdowns=slowdowns, stop=min(stops, default=None))


def _merged(profile: WorkerProfile, override: Override) -> WorkerProfile:
    compute: Delay = override.compute or profile.compute
    faults = profile.faults
    if override.faults is not None:
        faults = override.faults if override.faults.up is not None else None
    return profile._replace(
        compute=compute, uplink=override.uplink or profile.uplink, downlink=override.downlink or profile.downlink, faults=faults
    )


def _episode(event: Event) -> Episode:
    start = nanoseconds(event.at)
    assert event.slowdown is not None
    return Episode(start, None if event.duration is None else start + max(1, nanoseconds(event.duration)), event.slowdown)
