"""Find out that nothing more can happen in a run, or nothing but crashes, and say who waits for what."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from asyncsim.errors import Deadlock
from asyncsim.simulation.foreseeing import expected_round
from asyncsim.units import NANOSECONDS, show_seconds

if TYPE_CHECKING:
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker


def deadlock(sim: SimulationView, reason: str) -> Deadlock:
    """The error for a run that is stuck. Its message says who waits for what."""
    lines = [f"deadlock at {sim.env.now / NANOSECONDS:g} s of virtual time, version {sim.server.version}: {reason}"]
    expected: dict[str, list[int]] = {}
    for index in sim.admission.waiting:
        worker = sim.workers[index]
        expected.setdefault(sim.consistency.expects(worker.member, sim.progress[worker.stage]), []).append(index)
    lines += [f"  {_who(indices)} for {what}" for what, indices in expected.items()]
    gone = [worker.index for worker in sim.workers if worker.gone]
    if gone:
        lines.append(f"  gone for good: {_ranges(gone)}")
    held = sum(shard.buffered for shard in sim.server.shards)
    if held:
        lines.append(f"  the server holds {held} buffered pushes and waits for more")
    return Deadlock("\n".join(lines))


def fruitless(sim: SimulationView, crashes: int) -> Deadlock:
    """The error of a run in which workers crash again and again and no push arrives: how long are whose lives and rounds."""
    lives: dict[str, list[int]] = {}
    for worker in sim.workers:
        life, field = min(_lives(sim, worker), default=(math.inf, ""))
        if not worker.gone and not math.isinf(life):
            seconds = expected_round(worker.profile, sim.program, sim.costs).seconds
            story = f"{show_seconds(seconds)} a round, and on average {show_seconds(life)} between losses (`{field}`)"
            lives.setdefault(story, []).append(worker.index)
    when = f"at {sim.env.now / NANOSECONDS:g} s of virtual time, version {sim.server.version}"
    lines = [
        f"no progress {when}: {crashes:,} crashes one after the other, and not one push",
        *(f"  {'worker' if len(indices) == 1 else 'workers'} {_ranges(indices)}: {story}" for story, indices in lives.items()),
        "  what a worker has begun is lost when it crashes: lengthen the lives, or shorten the round (`cluster.compute`, links, "
        "local steps)",
    ]
    return Deadlock("\n".join(lines))


def _lives(sim: SimulationView, worker: Worker) -> Iterator[tuple[float, str]]:
    """Expected seconds between what takes a worker away, by its cause."""
    cluster = sim.cluster
    faults = worker.profile.faults
    if faults is not None and faults.up is not None:
        yield faults.up.expected, "cluster.faults.up"
    if cluster.zones is not None:
        yield cluster.zones.gap.expected, "cluster.zones.gap"
    for place, windows in enumerate(cluster.maintenance or ()):
        if windows.workers is None or worker.index in windows.workers:
            yield windows.every - windows.duration, f"cluster.maintenance.{place}.every"
    for place, source in enumerate(cluster.outages):
        if source.rate:
            yield len(sim.workers) / source.rate, f"cluster.outages.{place}"


def stuck(sim: SimulationView) -> bool:
    """Does every worker wait for another, with nobody to come? A restart of the server lets them go on, or the clock."""
    arrivals = sim.arrivals
    if sim.over or arrivals.restarts is not None or (arrivals.closings is not None and arrivals.closings.pending):
        return False
    if sim.consistency.clocked is not None:
        return False
    if any(queue.length for queue in arrivals.queues):
        return False
    return len(sim.admission.waiting) == sum(progress.members for progress in sim.progress) and not expected(sim)


def expected(sim: SimulationView) -> bool:
    """Will any worker still join?"""
    return any(worker.absent for worker in sim.workers)


def _who(indices: list[int]) -> str:
    return f"worker {indices[0]} waits" if len(indices) == 1 else f"workers {_ranges(indices)} wait"


def _ranges(indices: list[int]) -> str:
    """The text ``0-3, 7`` for [0, 1, 2, 3, 7]."""
    runs: list[list[int]] = []
    for index in sorted(indices):
        if runs and index == runs[-1][-1] + 1:
            runs[-1][1:] = [index]
        else:
            runs.append([index])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
