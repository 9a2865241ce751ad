"""Find out that nothing more can happen in a run, and say who waits for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.errors import Deadlock
from asyncsim.units import NANOSECONDS

if TYPE_CHECKING:
    from asyncsim.simulation.simulation import Simulation


def deadlock(sim: Simulation, reason: str) -> Deadlock:
    """The error for a run that is stuck. Its message says who waits for what."""
    lines = [f"deadlock at {sim.env.now / NANOSECONDS:g} s of virtual time, version {sim.server.version}: {reason}"]
    expected: dict[str, list[int]] = {}
    for index in sim.waiting:
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


def stuck(sim: Simulation) -> bool:
    """Does every worker wait for another one, with nobody left to join? A restart of the server would let them go on."""
    if sim.over or sim.restarts is not None or (sim.queues is not None and any(queue.length for queue in sim.queues)):
        return False
    return len(sim.waiting) == sum(progress.members for progress in sim.progress) and not expected(sim)


def expected(sim: Simulation) -> bool:
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
