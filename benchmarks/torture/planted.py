"""Bugs planted on purpose, one of each kind: a machine that does not find them would not find others."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import simpy

from asyncsim.consistency import ASP, BSP, SSP
from asyncsim.policies import Snapshot, accumulate
from asyncsim.policies.staleness import DropStale
from asyncsim.simulation.admission import Admission
from asyncsim.simulation.arrivals import Arrivals
from asyncsim.simulation.metering import Meter
from asyncsim.simulation.server import Server
from asyncsim.simulation.shard import Shard
from asyncsim.simulation.transport.links import Links
from asyncsim.simulation.transport.transport import DOWN, UP
from torture import ledger
from torture.interrupting import replaced
from torture.searching import Found, Tally, checks_of, fails, search, smallest, verified

Patch = tuple[Any, dict[str, Any]]
BUGS: dict[str, Callable[[], list[Patch]]] = {}
"""What each bug replaces; the names and docstrings say what is wrong."""
MOST_LINES = 15


def bug(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
    BUGS[patches.__name__] = patches
    return patches


@bug
def staleness_off_by_one() -> list[Patch]:
    """A snapshot says that it is one version older than it is; everything that is counted from it agrees."""
    read = Shard.read

    def older(self: Shard, *arguments: Any, **options: Any) -> Snapshot:
        snapshot = read(self, *arguments, **options)
        return snapshot._replace(version=max(0, snapshot.version - 1))

    return [(Shard, {"read": older})]


@bug
def lost_message() -> list[Patch]:
    """Now and then a push vanishes on its way into the server."""
    deliver = Arrivals.deliver

    def losing(self: Arrivals, worker: Any, step: int, *rest: Any) -> Any:
        if step % 7 == 3:
            self._sim.held.pop((worker.index, step), None)
            return None
        return deliver(self, worker, step, *rest)

    return [(Arrivals, {"deliver": losing})]


@bug
def ties_the_other_way() -> list[Patch]:
    """What is due at one instant happens last come, first served."""
    begin = simpy.Environment.__init__

    def reversed_order(self: simpy.Environment, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        self._eid = itertools.count(0, -1)

    return [(simpy.Environment, {"__init__": reversed_order})]


@bug
def state_forgotten_at_resume() -> list[Patch]:
    """The momentum starts from nothing when a run goes on."""
    restore = Shard.restore

    def forgetting(self: Shard, state: dict[str, Any]) -> None:
        fresh = self.policy.state.step
        restore(self, state)
        self.policy.state.step = fresh

    return [(Shard, {"restore": forgetting})]


@bug
def one_stream_for_two_purposes() -> list[Patch]:
    """Downloads take the draws of uploads."""
    begin = Links.__init__

    def shared(self: Links, workers: Any, streams: Any, costs: Any) -> None:
        begin(self, workers, streams, costs)
        for (worker, purpose), way in list(self._ways.items()):
            if purpose == DOWN:
                self._ways[worker, purpose] = way._replace(latencies=way.link.latency.draws(streams, UP, worker))

    return [(Links, {"__init__": shared})]


@bug
def gradient_on_current_parameters() -> list[Patch]:
    """Gradients are computed on what the server has at the arrival, not on what was read."""
    take_in = Shard.take_in

    def current(self: Shard, member: int, step: int, snapshot: Snapshot, work: Any, *rest: Any) -> Any:
        if work is not None and work.averaged is None and work.params is not None:
            work.params = self.params
        return take_in(self, member, step, snapshot, work, *rest)

    return [(Shard, {"take_in": current})]


@bug
def mean_divided_twice() -> list[Patch]:
    """The mean of several pushes is divided by their number once more."""
    mean = accumulate.mean_push

    def divided(pushes: list[Any]) -> Any:
        push = mean(pushes)
        if push.payload is not None:
            push.penalise(float(len(pushes)))
        return push

    return [(accumulate, {"mean_push": divided})]


@bug
def crash_leaves_a_push_in_a_buffer() -> list[Patch]:
    """A server that crashes says that it lost what was buffered, and keeps it."""
    crash = Shard.crash

    def keeping(self: Shard) -> None:
        buffers = [list(getattr(state, "buffer", ())) for state in self.policy.state.transforms]
        crash(self)
        for state, buffer in zip(self.policy.state.transforms, buffers, strict=True):
            if hasattr(state, "buffer"):
                state.buffer = buffer

    return [(Shard, {"crash": keeping})]


@bug
def recall_ignored() -> list[Patch]:
    """The first worker is never called back."""

    def deaf(recalls: Callable[..., bool]) -> Callable[..., bool]:
        return lambda self, worker, progress: worker != 0 and recalls(self, worker, progress)

    return [(rule, {"recalls": deaf(rule.recalls)}) for rule in (ASP, BSP)]


@bug
def meter_forgets_a_span() -> list[Patch]:
    """Some computing is not paid for."""
    span = Meter.span

    def forgetful(self: Meter, row: tuple[Any, ...]) -> None:
        if row[2] % 5 != 2:
            span(self, row)

    return [(Meter, {"span": forgetful})]


@bug
def plan_drops_otherwise() -> list[Patch]:
    """Where only the timeline is simulated, a push may be one version staler."""
    update = DropStale.update

    def lenient(self: DropStale, push: Any, *rest: Any) -> Any:
        if push.payload is None and push.staleness == self.bound + 1:
            return push
        return update(self, push, *rest)

    return [(DropStale, {"update": lenient})]


@bug
def bound_off_by_one() -> list[Patch]:
    """A worker may run one round further ahead than it should."""

    def lenient(self: SSP, worker: int, progress: Any) -> bool:
        return self.bound is None or progress.clock(worker) - progress.slowest() <= self.bound + 1

    return [(SSP, {"admits": lenient})]


@bug
def wake_up_lost() -> list[Patch]:
    """Of several workers that wait, the last is not asked again."""

    def ask_again(self: Admission) -> None:
        if not self.asks:
            return
        ready = [index for index in self.waiting if self._admits(self._sim.workers[index])]
        for index in ready[:-1] if len(ready) > 1 else ready:
            self.waiting.pop(index).succeed()

    return [(Admission, {"ask_again": ask_again})]


@bug
def evaluation_skipped() -> list[Patch]:
    """Every third evaluation is left out."""
    evaluate = Server.evaluate

    def seldom(self: Server, now: int) -> None:
        if self.version % 3 != 2 or self.finished:
            evaluate(self, now)

    return [(Server, {"evaluate": seldom})]


@contextmanager
def planted(name: str) -> Iterator[None]:
    """The package with one of the bugs in it."""
    with ExitStack() as stack:
        for owner, attributes in BUGS[name]():
            stack.enter_context(replaced(owner, **attributes))
        yield


def hunt(name: str, seconds: float, first: int = 0, shrink: float = 60.0) -> tuple[Tally, Found | None]:
    """Search until the bug is found, and make the scenario small. What fails without the bug as well does not count."""
    total = Tally()
    while total.seconds < seconds:
        with planted(name):
            tally = search(first + total.seeds, None, seconds - total.seconds, lambda _: None, stop_at=1)
        total.seeds, total.seconds, total.cpu = total.seeds + tally.seeds, total.seconds + tally.seconds, total.cpu + tally.cpu
        found = next(iter(tally.found.values()), None)
        with verified():
            if found is None or fails(found.document, found.finding.way, checks_of(found.seeds[0])):
                continue
            with planted(name):
                found.smallest = smallest(found, shrink)
        return total, found
    return total, None


def main(names: Sequence[str], seconds: float) -> int:
    """A row for each bug; 1 if one was not found, or stayed large."""
    missed = 0
    print("| bug | found as | seeds | CPU seconds | lines |\n|---|---|---|---|---|")
    for name in names or BUGS:
        begun = time.process_time()
        tally, found = hunt(name, seconds)
        spent = time.process_time() - begun
        if found is None:
            missed += 1
            print(f"| `{name}` | not found | {tally.seeds} | {spent:.0f} | |", flush=True)
            continue
        text = ledger.text(found.smallest)
        missed += text.count("\n") >= MOST_LINES
        way = f"{found.finding.check}: {found.finding.what}"
        print(f"| `{name}` | {way} | {tally.seeds} | {tally.cpu:.1f} | {text.count(chr(10))} |", flush=True)
        print(f"{name}, seed {found.seeds[0]}: {found.finding}\n{text}", file=sys.stderr)
    return int(missed > 0)
