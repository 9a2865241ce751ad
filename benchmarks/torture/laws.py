"""What the tables of a run have to say about each other, whatever the method: found out from the rows alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from asyncsim.needs import Need
from asyncsim.records import EVENT_KINDS, OUTCOMES, Result
from asyncsim.records.rows import WORK
from asyncsim.scenario import Scenario
from torture.outcomes import Finding

APPLIED, BUFFERED, DROPPED = (OUTCOMES.index(name) for name in ("applied", "buffered", "dropped"))
DOWNLOAD, COMPUTE, UPLOAD = (EVENT_KINDS.index(name) for name in ("download", "compute", "upload"))
WORKING = [EVENT_KINDS.index(name) for name in WORK]
NEAR = 1e-9


class Facts:
    """One run: its tables, and when its versions were made."""

    def __init__(self, scenario: Scenario, result: Result) -> None:
        self.scenario, self.bundle, self.summary = scenario, scenario.bundle(), result.summary
        self.updates, self.events, self.metrics = (result.tables[name] for name in ("updates", "events", "metrics"))
        self.replicas = not scenario.staged and self.bundle.exchange is None
        self.pushes_last = self.bundle.program.kind != "elastic"  # which computes after it has pushed
        self.times = self.updates["time_ns"].tolist()
        self.versions = self.updates["version"].tolist()
        self.outcomes = self.updates["outcome"].tolist()
        self.end = int(self.metrics["time_ns"][-1])

    def least(self, now: int) -> int:
        """The version before ``now``, at least."""
        place = bisect_left(self.times, now)
        return self.versions[place - 1] if place else 0

    def most(self, now: int) -> float:
        """The version after ``now``, at most."""
        place = bisect_right(self.times, now)
        return self.versions[place] - (self.outcomes[place] == APPLIED) if place < len(self.times) else float("inf")


def order(facts: Facts) -> None:
    for name, values in (("time", facts.times), ("version", facts.versions)):
        if facts.replicas and any(after < before for before, after in pairwise(values)):
            raise Finding("tables", f"the {name} of arrivals goes back")


def staleness(facts: Facts) -> None:
    """Versions between the read and the arrival; and what was read is what there was when it was read."""
    if not facts.replicas:
        return
    begun: dict[tuple[int, int], int] = {}
    older = Need.OLD_VERSIONS in facts.bundle.needs
    columns = (facts.events[name].tolist() for name in ("kind", "worker", "step", "start_ns"))
    for kind, worker, step, start in zip(*columns, strict=True):
        if kind in (DOWNLOAD, COMPUTE if facts.pushes_last else UPLOAD):
            begun[worker, step] = min(start, begun.get((worker, step), start))
    columns = (facts.updates[name].tolist() for name in ("worker", "step", "read_version", "version", "staleness", "outcome"))
    for worker, step, read, version, stale, outcome in zip(*columns, strict=True):
        if stale != version - (outcome == APPLIED) - read:
            raise Finding("tables", "staleness is not the versions since the read", f"worker {worker}, step {step}")
        now = begun.get((worker, step))
        if now is not None and not (0 if older else facts.least(now)) <= read <= facts.most(now):
            raise Finding("tables", "a version was read that was not there", f"worker {worker}, step {step}: {read} at {now} ns")


def once(facts: Facts) -> None:
    keys = list(zip(facts.updates["worker"].tolist(), facts.updates["step"].tolist(), strict=True))
    if len(set(keys)) < len(keys):
        raise Finding("tables", "a result arrived twice")


def recalls(facts: Facts) -> None:
    """Work that the rule calls back is not finished, where it is for a push yet to come."""
    rule = facts.bundle.consistency
    bound = 1 if rule.kind == "bsp" else getattr(rule, "recall_after", None)  # another rule's bound may change on the way
    if not facts.replicas or Need.RECALLS not in rule.needs or not facts.pushes_last or bound is None:
        return
    columns = (facts.events[name].tolist() for name in ("kind", "complete", "version", "end_ns", "worker", "step"))
    for kind, complete, version, end, worker, step in zip(*columns, strict=True):
        if kind == COMPUTE and complete and facts.least(end) - version >= bound:
            raise Finding("tables", "work was finished that should have been called back", f"worker {worker}, step {step}")


def drops(facts: Facts) -> None:
    """The first rule of a chain sees every staleness as it is."""
    first = facts.bundle.transforms[0] if facts.bundle.transforms else None
    if first is None or first.kind != "drop_stale":
        return
    stale = facts.updates["staleness"] > first.bound
    if (stale & (facts.updates["outcome"] != DROPPED)).any():
        raise Finding("tables", "a push was kept that is too stale")


def buffers(facts: Facts) -> None:
    """Every push that is kept is in one update, in a buffer at the end, or lost with the server."""
    chain = [transform for transform in facts.bundle.transforms if Need.BUFFERS in transform.needs]
    known = all(t.kind == "accumulate" and Need.CLOSES not in t.needs for t in chain) and len(chain) <= 1
    if not facts.replicas or not known or (chain and (chain[0].count is None or chain[0].members)):
        return
    count = chain[0].count if chain else 1
    kept = facts.outcomes.count(APPLIED) + facts.outcomes.count(BUFFERED) - facts.summary.get("lost_pushes", 0)
    left = kept - count * facts.outcomes.count(APPLIED)
    dropping = any(Need.DROPS in transform.needs for transform in facts.bundle.transforms)
    if not dropping and not 0 <= left < count:
        raise Finding("tables", "pushes and updates do not add up", f"{kept} kept, {count} an update, {left} left")
    per_push = facts.scenario.task.batch * facts.bundle.program.batches
    paced = Need.PACES in facts.bundle.needs  # samples of a push differ
    if not (dropping or paced or facts.summary.get("server_restarts")) and facts.summary["samples"] != (kept - left) * per_push:
        raise Finding("tables", "samples are not those of the pushes applied")


def counts(facts: Facts) -> None:
    summary, metrics = facts.summary, facts.metrics
    if facts.replicas and summary["pushes"] != len(facts.times):
        raise Finding("tables", "pushes are not the arrivals")
    if summary["dropped"] != facts.outcomes.count(DROPPED):
        raise Finding("tables", "drops are not those of the arrivals")
    if not np.isclose(facts.end / 1e9, summary["time"], rtol=1e-12) or metrics["pushes"][-1] != summary["pushes"]:
        raise Finding("tables", "the last evaluation is not that of the end")


def evaluations(facts: Facts) -> None:
    """As often as the cadence says."""
    cadence = facts.scenario.evaluate.against(facts.scenario.run)
    if facts.scenario.cluster.server.faults is not None:
        return
    if cadence.updates is not None:
        wanted = set(range(0, facts.summary["updates"] + 1, cadence.updates))
        if wanted - set(facts.metrics["version"].tolist()):
            raise Finding("tables", "an evaluation is missing")
    if cadence.every_ns is not None:
        wanted = set(range(0, facts.end, cadence.every_ns))
        if wanted - set(facts.metrics["time_ns"].tolist()):
            raise Finding("tables", "an evaluation is missing")


def bills(facts: Facts) -> None:
    """Energy of computing: that of the spans, and of what goes on at the end."""
    profiles = facts.scenario.cluster.worker_profiles()
    if "energy_busy" not in facts.summary or any(profile.foreground for profile in profiles):
        return
    working = np.isin(facts.events["kind"], WORKING)
    spent = going_on = 0.0
    for profile in profiles:
        watts = 0.0 if profile.instance is None else profile.instance.busy
        mine = facts.events["worker"] == profile.worker
        spans = facts.events["end_ns"] - facts.events["start_ns"]
        spent += watts * float(spans[mine & working].sum()) / 1e9
        last = int(facts.events["end_ns"][mine].max(initial=0))
        going_on += watts * (facts.end - last) / 1e9
    slack = NEAR * (1.0 + spent + going_on)
    if not spent - slack <= facts.summary["energy_busy"] <= spent + going_on + slack:
        detail = f"{facts.summary['energy_busy']}, {spent} to {spent + going_on}"
        raise Finding("tables", "energy is not that of the spans", detail)


LAWS: tuple[Callable[[Facts], None], ...] = (
    order, staleness, once, recalls, drops, buffers, counts, evaluations, bills,
)  # fmt: skip


def check_tables(scenario: Scenario, result: Result) -> None:
    """Raises ``Finding`` for the first law that does not hold."""
    facts: Any = Facts(scenario, result)
    for law in LAWS:
        law(facts)
