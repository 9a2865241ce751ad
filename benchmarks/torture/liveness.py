"""First nothing wrong happens, then something right does: updates come, or it is said why not."""

from __future__ import annotations

from itertools import pairwise

from asyncsim.needs import Need
from asyncsim.policies import Transform
from asyncsim.records import EVENT_KINDS, OUTCOMES, Result
from asyncsim.scenario import Scenario
from torture.drawing import has_kind
from torture.outcomes import Finding

APPLIED = OUTCOMES.index("applied")
PASSIVE = [EVENT_KINDS.index(kind) for kind in ("wait", "down", "stop")]
ROUNDS = 4
"""Times the longest piece of work, for every push that an update and every worker may need: generous, but no accident."""


def last_fault(scenario: Scenario) -> int | None:
    """When (ns) the last worker is taken away or comes back; None if that goes on for ever."""
    cluster = scenario.cluster
    owners = (cluster, *cluster.groups, *cluster.overrides.values())
    sources = cluster.zones or cluster.maintenance or cluster.outages or cluster.server.faults
    endless = sources or any(owner.faults for owner in owners)
    if endless or has_kind(scenario, "recorded"):
        return None
    events = (*cluster.events, *(cluster.script.events if cluster.script else ()))
    return max((round((event.at + (event.down or 0.0)) * 1e9) for event in events if event.slowdown is None), default=0)


def travels(scenario: Scenario) -> bool:
    """Do activations and error signals take time between the stages of a pipeline? Their receiver waits meanwhile."""
    cluster, stages = scenario.cluster, scenario.stages
    links = [stages.link] if stages.link is not None else [
        each.uplink for each in (cluster, *cluster.groups, *cluster.overrides.values()) if each.uplink is not None
    ]  # fmt: skip
    slow = cluster.network is not None or any(link.bandwidth is not None or link.latency.expected > 0 for link in links)
    return stages.count > 1 and slow


def check_progress(scenario: Scenario, result: Result) -> None:
    """Raises ``Finding`` if no update came for long, though nobody was taken away any more."""
    begin, bundle = last_fault(scenario), scenario.bundle()
    meanwhile = bundle.needs & (Need.OVERLAPS | Need.MEMORY)  # what is sent, fetched or written then is no span of its worker
    if begin is None or meanwhile or travels(scenario):
        return
    gathers = [transform.kind for transform in bundle.transforms if Need.BUFFERS in transform.needs]
    if {"gradient_table", "fragment_means"} & set(gathers[1:]):  # a mean is its last sender's, and each has to be the last once
        return
    events, updates = result.tables["events"], result.tables["updates"]
    working = [kind not in PASSIVE for kind in events["kind"].tolist()]
    longest = int((events["end_ns"] - events["start_ns"])[working].max(initial=1))
    pushes = 1
    for transform in bundle.transforms:
        if Need.MEANS in transform.needs:
            pushes *= _count(transform) or getattr(transform, "each", 1) * scenario.groups
    bound = ROUNDS * longest * (pushes + scenario.cluster.num_workers) * scenario.stages.count
    times = [time for time in updates["time_ns"][updates["outcome"] == APPLIED].tolist() if time > begin]
    gap = max((after - before for before, after in pairwise([begin, *times])), default=0)
    if gap > bound:
        raise Finding("lively", "no update for long", f"{gap / 1e9:g} s, and the longest work takes {longest / 1e9:g} s")


def _count(transform: Transform) -> int | None:
    """How many pushes a transform takes to pass one on, if that is a setting."""
    return getattr(transform, "count", None) or getattr(transform, "buffer", None)
