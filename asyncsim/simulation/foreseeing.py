"""Estimate how much will happen in a run from the means of its delays, and refuse a run that would never end before it begins."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from asyncsim.cluster import Cluster, Delay, WorkerProfile
from asyncsim.cluster.two_state import TwoState
from asyncsim.consistency import Consistency
from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.policies import Accumulate, Transform
from asyncsim.simulation.length import Evaluation, RunLength
from asyncsim.simulation.programs import Program
from asyncsim.simulation.stream import Stream
from asyncsim.simulation.view import ProgramView
from asyncsim.simulation.worker import Costs
from asyncsim.units import NANOSECONDS

MOST_EVENTS = 100_000_000
"""The largest estimated number of pushes, evaluations and the like in a run, unless ``run.most_events`` gives another one."""
TICK = 1 / NANOSECONDS


class Round(NamedTuple):
    """What takes time between two pushes of a worker, in expected virtual seconds. The server's queue and waiting are left out.
    """

    download: float
    compute: float
    upload: float

    @property
    def seconds(self) -> float:
        return max(TICK, self.download + self.compute + self.upload)


class Foreseen(NamedTuple):
    """Expected numbers of events; each field is named by what makes it large."""

    pushes: float
    evaluations: float
    crashes: float
    saves: float
    changes: float
    """Of a machine's speed, by load, slow episodes and applications."""
    items: float = 0.0
    """Of a stream."""
    decisions: float = 0.0
    """Of a consistency rule that goes by the clock."""

    def refuse(self, most: int) -> None:
        """Raise ``UserError`` if there are more than ``most`` events."""
        total = sum(self)
        if total <= most:
            return
        where, what, wrong = max(zip(_FIELDS, self._fields, self, strict=True), key=lambda each: each[2])
        raise UserError(
            f"{where}: about {_count(total)} events are foreseen in this run, {_count(wrong)} of them {what}; allowed are "
            f"{_count(most)}. {_ADVICE[what]}, make the run shorter, or allow it with `run.most_events: {_power(total)}`"
        )


_FIELDS = ("run", "evaluate", "cluster", "cluster.server.checkpoint", "cluster.load", "stream.period", "method.slot")
_ADVICE = {
    "pushes": "Lengthen `cluster.compute`", "evaluations": "Evaluate less often", "crashes": "Lengthen lives and absences",
    "saves": "Lengthen `cluster.server.checkpoint`, and the server's lives", "changes": "Lengthen periods and slow episodes",
    "items": "Lengthen the period", "decisions": "Let the consistency rule decide less often",
}  # fmt: skip


def expected_round(profile: WorkerProfile, program: ProgramView, costs: Costs) -> Round:
    """The round of one worker, as if it were alone on its links."""
    stage = profile.worker % len(costs.shares)
    push, read = costs.push_bytes[stage], costs.message_bytes[stage]
    download = 0.0 if read is None else profile.downlink.duration(profile.downlink.latency.expected, read)
    push = costs.exchange_bytes if push is None else push  # it stays where it is, and a message to a partner travels
    upload = 0.0 if push is None else profile.uplink.duration(profile.uplink.latency.expected, push)
    return Round(download, program.period(costs.shares[stage] * program.batches * profile.compute.expected), upload)


def foresee(
    cluster: Cluster,
    program: Program,
    consistency: Consistency,
    transforms: Iterable[Transform],
    length: RunLength,
    evaluation: Evaluation,
    costs: Costs,
    samples: int,
    stream: Stream | None = None,
) -> Foreseen:
    """The approximate numbers of events that a run will need. ``samples`` is the number of samples in one push.

    Where the means do not tell (lifetimes shorter than a round, means that do not exist), the estimate is below the number
    of events to come.
    """
    kinds = _kinds(cluster)
    stages, workers = len(costs.shares), cluster.num_workers
    needed = _pushes(transforms, length, samples, workers // stages) * stages
    rate = _rate(kinds, program, consistency, cluster, costs)
    arriving = 0.0 if stream is None else 1 / stream.period
    rate = min(rate, stages * arriving) if arriving else rate
    ends = math.inf if length.time is None else length.time
    ends = min(ends, needed / rate if rate else 0.0 if math.isinf(ends) else ends)
    pushes = min(needed, rate * ends)
    cadence = evaluation.against(length)
    evaluations = ends / max(TICK, cadence.time) if cadence.time else 0.0
    if cadence.updates or cadence.samples:
        evaluations = pushes / stages / max(1.0, (cadence.samples or 0) / samples, cadence.updates or 0)
    server, saves = cluster.server, 0.0
    if server.faults is not None and server.checkpoint is not None:
        saves = ends * (1 / max(TICK, server.checkpoint) + _often(server.faults.up, server.faults.down))
    decisions = ends * NANOSECONDS / consistency.clocked if consistency.clocked else 0.0
    crashes, changes = ends * _losses(kinds, cluster), ends * _changes(kinds)
    return Foreseen(pushes, evaluations, crashes, saves, changes, ends * arriving, decisions)


def _kinds(cluster: Cluster) -> list[tuple[WorkerProfile, int]]:
    """The profiles that differ in what matters here, each with its number of workers."""
    found: dict[tuple[int, ...], WorkerProfile] = {}
    counts: Counter[tuple[int, ...]] = Counter()
    for profile in cluster.worker_profiles():
        parts = (profile.compute, profile.uplink, profile.downlink, profile.faults, profile.load, profile.foreground)
        key = tuple(map(id, parts))
        found.setdefault(key, profile)
        counts[key] += 1
    return [(found[key], count) for key, count in counts.items()]


def _rate(
    kinds: list[tuple[WorkerProfile, int]], program: Program, consistency: Consistency, cluster: Cluster, costs: Costs
) -> float:
    """Pushes a second. Where workers wait for each other, all are as fast as the slowest."""
    rounds = [(expected_round(profile, program, costs).seconds, count) for profile, count in kinds]
    if Need.WAITS in consistency.needs:
        slowest = max(seconds for seconds, _ in rounds)
        rounds = [(slowest, count) for _, count in rounds]
    rate = sum(count / seconds for seconds, count in rounds)
    service = cluster.server.service.expected
    return min(rate, len(costs.shares) / service) if service else rate


def _pushes(transforms: Iterable[Transform], length: RunLength, samples: int, groups: int) -> float:
    """The number of pushes to each shard until the end of the run."""
    each = 1
    for transform in transforms:
        if isinstance(transform, Accumulate):
            everybody = transform.each * groups
            count = everybody if transform.count is None else transform.count
            each = max(each, min(count, everybody) if transform.members else count)
    limits = [math.inf]
    if length.updates is not None:
        limits.append(float(length.updates * each))
    if length.samples is not None:
        limits.append(length.samples / samples)
    return min(limits)


def _losses(kinds: list[tuple[WorkerProfile, int]], cluster: Cluster) -> float:
    """Crashes a second of all workers together."""
    rate = 0.0
    for profile, count in kinds:
        if (faults := profile.faults) is not None and faults.up is not None and faults.down is not None:
            rate += count * _often(faults.up, faults.down)
    if cluster.zones is not None:
        rate += cluster.num_workers * _often(cluster.zones.gap, cluster.zones.down)
    for windows in cluster.maintenance or ():
        rate += (cluster.num_workers if windows.workers is None else len(windows.workers)) / windows.every
    return rate + sum(source.rate for source in cluster.outages)


def _changes(kinds: list[tuple[WorkerProfile, int]]) -> float:
    """Changes of speed a second of all workers together."""
    rate = 0.0
    for profile, count in kinds:
        if profile.load is not None:
            rate += count * len(profile.load.pieces()) / profile.load.period
        if profile.foreground is not None:
            rate += 2 * count / profile.foreground.every
        if isinstance(profile.compute, TwoState):
            rate += 2 * count * _often(profile.compute.normal, profile.compute.slow)
    return rate


def _often(up: Delay, down: Delay) -> float:
    return 1 / max(TICK, up.expected + down.expected)


def _count(value: float) -> str:
    return f"{value:,.0f}" if value < 1e12 else f"{value:.3g}"


def _power(value: float) -> str:
    """The power of ten above ``value``, as one would write it."""
    return f"{10 ** math.ceil(math.log10(value)):_}" if value < 1e18 else "1e18"
