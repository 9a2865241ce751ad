"""Find what a scenario schedules after the end of its run, so that it never happened."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from asyncsim.cluster import Cluster
from asyncsim.cluster.cluster import Override
from asyncsim.cluster.happenings import Event
from asyncsim.cluster.load import Load
from asyncsim.cluster.outages import Maintenance
from asyncsim.scenario.schema import Scenario
from asyncsim.units import show_seconds


class Unreached(NamedTuple):
    """A field of the scenario that had no effect on a run: ``told`` says what it would have done, ``at`` when (virtual seconds;
    infinity where that is drawn at random)."""

    field: str
    told: str
    at: float

    def __str__(self) -> str:
        return f"{self.field} ({self.told})" + (f" at {show_seconds(self.at)}" if math.isfinite(self.at) else "")


def unreached(scenario: Scenario, summary: Mapping[str, Any]) -> list[Unreached]:
    """All that lies after the end of a run with this ``summary``, the earliest first; empty if everything happened.

    What is drawn at random (crashes of workers, of zones, of the server) is listed if none happened in the whole run.
    """
    found = [each for each in _timed(scenario.cluster) if each.at >= summary["time"]]
    return sorted([*found, *_drawn(scenario.cluster, summary)], key=lambda each: each.at)


def _timed(cluster: Cluster) -> Iterator[Unreached]:
    """The first moment at which each field has an effect that names a time."""
    for place, event in enumerate(cluster.events):
        yield Unreached(f"cluster.events.{place}", _what(event), event.at)
    for place, event in enumerate(cluster.script.events if cluster.script else ()):
        yield Unreached(f"cluster.script, event {place + 1}", _what(event), event.at)
    for place, windows in enumerate(cluster.maintenance or ()):
        yield Unreached(f"cluster.maintenance.{place}", "first window", _first(windows))
    owners: list[tuple[str, Cluster | Override]] = [("cluster", cluster)]
    owners += ((f"cluster.groups.{place}", each) for place, each in enumerate(cluster.groups))
    owners += [(f"cluster.overrides.{worker}", each) for worker, each in cluster.overrides.items()]
    for name, owner in owners:
        if owner.load is not None:
            yield Unreached(f"{name}.load", "first change of the speed", _first_change(owner.load))


def _drawn(cluster: Cluster, summary: Mapping[str, Any]) -> Iterator[Unreached]:
    owners: tuple[Cluster | Override, ...] = (cluster, *cluster.groups, *cluster.overrides.values())
    faulty = any(owner.faults is not None and owner.faults.up is not None for owner in owners)
    if not summary.get("crashes"):
        if faulty:
            yield Unreached("faults", "no worker crashed", math.inf)
        if cluster.zones is not None:
            yield Unreached("cluster.zones", "no zone was lost", math.inf)
        for place, source in enumerate(cluster.outages):
            yield Unreached(f"cluster.outages.{place}", f"{source.kind}: no worker crashed", math.inf)
    if cluster.server.faults is not None and not summary.get("server_restarts"):
        yield Unreached("cluster.server.faults", "the server did not come back from a crash", math.inf)


def _what(event: Event) -> str:
    kind = next(name for name in ("slowdown", "down", "stop", "leave", "join") if getattr(event, name) not in (None, False))
    workers = sorted(event.workers)
    return f"{kind} of worker {workers[0]}" + (f" and {len(workers) - 1:,} more" if len(workers) > 1 else "")


def _first(windows: Maintenance) -> float:
    return windows.every if windows.first is None else windows.first


def _first_change(load: Load) -> float:
    """When the speed is another one than at the start: at the end of the first run of equal pieces; never if all are equal."""
    pieces = load.pieces()
    place = next((place for place, factor in enumerate(pieces) if factor != pieces[0]), None)
    return math.inf if place is None else load.period * place / len(pieces)
