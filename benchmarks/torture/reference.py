"""The arrivals of plain replicas once more, without SimPy and without the simulator's classes: one heap, one page.

It covers `asp`, `bsp` and `ssp` with links, a service time and chains that drop or average; no faults, no shared network. Delay
distributions and the names of random streams are the only things taken from the package.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

from asyncsim.cluster.delays import steady
from asyncsim.needs import Need
from asyncsim.records import Result
from asyncsim.scenario import Scenario
from asyncsim.streams import BLOCK, Streams
from torture.drawing import has_kind
from torture.outcomes import Finding

PASSING = ("staleness_aware", "mixing", "rescheduling")
"""Transforms that are not marked as numeric, and let every push pass."""
APPLIED, BUFFERED, DROPPED = range(3)
MOST = 100_000
"""Events after which the reference gives up too."""
COLUMNS = ("time_ns", "worker", "step", "read_version", "version", "staleness", "outcome")


def covered(scenario: Scenario) -> bool:
    """Is this a scenario that the reference knows all about?"""
    cluster, bundle = scenario.cluster, scenario.bundle()
    profiles = cluster.worker_profiles()
    shared = cluster.network or cluster.all_reduce
    quiet = not (cluster.zones or cluster.maintenance or cluster.events or cluster.script or cluster.outages or shared)
    simple = all(
        profile.faults is None and profile.load is None and profile.foreground is None and steady(profile.compute)
        for profile in profiles
    ) and not has_kind(scenario, "recorded")
    server = cluster.server.faults is None
    program = bundle.program.kind in ("replica", "local_sgd") and not scenario.staged and bundle.exchange is None
    program = program and Need.OVERLAPS not in bundle.needs
    consistency = bundle.consistency.kind in ("asp", "bsp", "ssp") and Need.RECALLS not in bundle.needs
    unlimited = scenario.run.target is None and scenario.run.most_events is None
    planned = scenario.stream is None and not bundle.decided_by_values
    chain = all(
        t.needs.numeric or (t.kind in (*PASSING, "drop_stale", "accumulate") and Need.CLOSES not in t.needs)
        for t in bundle.transforms
    ) and not (bundle.uplink or bundle.downlink)
    return quiet and simple and server and program and consistency and chain and unlimited and planned


class Reference:
    """Workers read, compute and push in virtual time; ``rows`` are the arrivals."""

    def __init__(self, scenario: Scenario) -> None:
        self.bundle = scenario.bundle()
        self.length = scenario.run
        self.samples_per_push = scenario.task.batch * self.bundle.program.batches
        self.streams = Streams(scenario.seed)
        self.profiles = scenario.cluster.worker_profiles()
        self.service = scenario.cluster.server.service
        self.down, self.up = scenario.message_bytes, scenario.push_bytes
        workers = len(self.profiles)
        self.heap: list[tuple[int, int, Callable[[int], None], int]] = []
        self.scheduled = self.now = self.version = self.samples = self.free = self.arrived = 0
        self.step, self.read_version, self.clock = [0] * workers, [0] * workers, [0] * workers
        self.delivered = [-1] * workers
        self.waiting: list[int] = []
        self.buffers: list[list[Any]] = [[] for _ in self.bundle.transforms]
        self.blocks: dict[Any, Any] = {}
        self.rows: list[tuple[int, ...]] = []
        self.over = False
        for worker in range(workers):
            self.at(0, self.read, worker)
        if self.length.time is not None:
            self.at(round(self.length.time * 1e9), self.stop, 0)
        while not self.over and self.heap and self.scheduled < MOST:
            self.now, _, what, worker = heapq.heappop(self.heap)
            what(worker)

    def at(self, time: int, what: Callable[[int], None], worker: int) -> None:
        """Ties are served in the order of these calls."""
        self.scheduled += 1
        heapq.heappush(self.heap, (time, self.scheduled, what, worker))

    def draw(self, delay: Any, purpose: str, key: tuple[int, ...], step: int) -> float:
        block, offset = divmod(step, BLOCK)
        name = purpose, key, block
        if name not in self.blocks:
            self.blocks[name] = delay.sample(self.streams(purpose, *key, block), BLOCK)
        return float(self.blocks[name][offset])

    def stop(self, _: int) -> None:
        self.over = True

    def read(self, worker: int) -> None:
        if self.admits(worker):
            self.take(worker)
        else:
            self.waiting.append(worker)

    def admits(self, worker: int) -> bool:
        rule = self.bundle.consistency
        if rule.kind == "bsp":
            return self.version > self.delivered[worker]
        return rule.kind == "asp" or rule.bound is None or self.clock[worker] - min(self.clock) <= rule.bound

    def take(self, worker: int) -> None:
        self.read_version[worker] = self.version
        self.carry(worker, "downlink", self.profiles[worker].downlink, self.down, self.compute)

    def compute(self, worker: int) -> None:
        delay, count = self.profiles[worker].compute.for_worker(self.streams, worker), self.bundle.program.batches
        first = self.step[worker] * count
        seconds = sum(self.draw(delay, "compute", (worker,), first + index) for index in range(count))
        self.at(self.now + max(1, round(seconds * 1e9)), self.computed, worker)

    def computed(self, worker: int) -> None:
        self.carry(worker, "uplink", self.profiles[worker].uplink, self.up, self.deliver)

    def carry(self, worker: int, purpose: str, link: Any, nbytes: float, then: Callable[[int], None]) -> None:
        """A message over a link of its own; a link without any delay takes no event."""
        latency = link.latency.for_worker(self.streams, worker)
        transfer = nbytes / link.bandwidth if link.bandwidth else 0.0
        if latency.expected == 0 and transfer == 0:
            then(worker)
            return
        seconds = self.draw(latency, purpose, (worker,), self.step[worker]) + transfer
        self.at(self.now + round(seconds * 1e9), then, worker)

    def deliver(self, worker: int) -> None:
        if not self.service.expected:
            self.serve(worker)
            return
        self.free = max(self.now, self.free) + round(self.draw(self.service, "service", (), self.arrived) * 1e9)
        self.arrived += 1
        self.at(self.free, self.serve, worker)

    def serve(self, worker: int) -> None:
        staleness = self.version - self.read_version[worker]
        self.delivered[worker] = max(self.delivered[worker], self.read_version[worker])
        before = min(self.clock), self.version
        self.clock[worker] += 1
        outcome = self.chain(staleness)
        row = (self.now, worker, self.step[worker], self.read_version[worker], self.version, staleness, outcome)
        self.rows.append(row)
        updates, samples = self.length.updates, self.length.samples
        self.over = (updates is not None and self.version >= updates) or (samples is not None and self.samples >= samples)
        if (min(self.clock), self.version) != before:
            freed = [each for each in self.waiting if self.admits(each)]
            self.waiting = [each for each in self.waiting if each not in freed]
            for each in freed:
                self.at(self.now, self.take, each)
        self.step[worker] += 1
        self.read(worker)

    def chain(self, staleness: int) -> int:
        """Through the transforms; a push is its staleness and how many it stands for."""
        merged = 1
        for transform, buffer in zip(self.bundle.transforms, self.buffers, strict=True):
            if transform.kind == "drop_stale" and staleness > transform.bound:
                return DROPPED
            if transform.kind == "accumulate":
                buffer.append(merged)
                everybody = transform.each * len(self.profiles)
                if not (len(buffer) >= transform.count if transform.count else False):
                    by_members = transform.count is None or transform.members
                    if not by_members or len(buffer) < everybody:
                        return BUFFERED
                merged = sum(buffer)
                buffer.clear()
        self.version += 1
        self.samples += merged * self.samples_per_push
        return APPLIED


def check_timeline(scenario: Scenario, result: Result | None) -> bool:
    """Raises ``Finding`` where the arrivals of a plan are not those of the reference; False if it does not cover the scenario.

    Without ``result`` the plan was refused: the reference must not come to an end either, but for the end of ``run.time``, as a
    run in which everybody waits is given up before it.
    """
    if not covered(scenario):
        return False
    own = Reference(scenario)
    rows = own.rows
    if result is None:
        if own.over and scenario.run.time is None:
            raise Finding("reference", "a run was given up that has an end")
        return True
    table = result.tables["updates"]
    theirs = list(zip(*(table[name].tolist() for name in COLUMNS), strict=True))
    for index, (mine, other) in enumerate(zip(rows, theirs, strict=False)):
        if mine != other:
            names = [name for name, one, two in zip(COLUMNS, mine, other, strict=True) if one != two]
            raise Finding("reference", f"other {names[0]}", f"arrival {index}: {COLUMNS} {other}, expected {mine}")
    if len(rows) != len(theirs):
        raise Finding("reference", "another number of arrivals", f"{len(theirs)}, expected {len(rows)}")
    return True
