"""Send a push while its worker computes the next one."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from asyncsim.simulation import faults

if TYPE_CHECKING:
    from asyncsim.messages import Future, Snapshot
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker


def hand_over(sim: Verbs, worker: Worker, snapshot: Snapshot, work: Future | None) -> Generator[Any, Any, None]:
    """Send a result in the background, once the one before has arrived and the consistency rule allows it. No span shows it."""
    while worker.sending is not None:
        yield from sim.wait(worker, worker.sending)
    may = sim.admission.join(worker, to_send=True)
    if may is not None:
        yield from sim.wait(worker, may)
    worker.work, worker.left = None, work
    sim.progress[worker.stage].sent(worker.member)
    sim.arrivals.launched(worker, snapshot, work)
    worker.sending = sim.env.process(_send(sim, worker, worker.step, snapshot, work))


def cut_off(worker: Worker) -> None:
    """Stop the sending of a worker that crashes or leaves: what has not reached the server is lost."""
    if worker.sending is not None and worker.served is None:
        worker.sending.interrupt(faults.STOP)


def _send(
    sim: Verbs, worker: Worker, step: int, snapshot: Snapshot, work: Future | None
) -> Generator[Any, Any, None]:
    try:
        yield from sim.upload(worker, behind=step)
    except simpy.Interrupt:
        sim.lose(worker, step)
        if work is not None:
            work.cancel()
    else:
        served = sim.arrivals.deliver(worker, step, snapshot, work)
        if served is not None:
            yield served
    worker.sending = None
