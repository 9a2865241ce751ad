"""The life of a worker: rounds of its program until it is interrupted, what it loses then, and how it comes back."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import simpy

from asyncsim.simulation import faults
from asyncsim.simulation.activities import DOWN, IDLE, QUEUE, STOP, WAIT
from asyncsim.simulation.deadlocks import deadlock, expected
from asyncsim.simulation.instants import RETURN, at
from asyncsim.simulation.sending import cut_off
from asyncsim.streams import Exhausted

if TYPE_CHECKING:
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker


class Lives:
    """Lets the workers of ``sim`` live. ``recalled`` and ``crashes`` count what has interrupted them."""

    def __init__(self, sim: SimulationView) -> None:
        self._sim = sim
        self.recalled = 0
        self.crashes = 0

    def begin(self, worker: Worker) -> None:
        """Start the worker's life; who is absent at time 0 joins later."""
        if worker.profile.absences and not worker.profile.absences[0][0]:
            progress = self._sim.progress[worker.stage]
            worker.up, worker.absent, worker.down_until = False, True, worker.profile.absences[0][1]
            progress.leave(worker.member)
            progress.depart(worker.member)
        worker.process = self._sim.env.process(self._live(worker))

    def depart(self, worker: Worker) -> None:
        """Nothing more will come of a worker that left, for good or until it joins again."""
        sim = self._sim
        progress = sim.progress[worker.stage]
        progress.depart(worker.member)
        version = progress.version
        sim.server.settle(worker.index, sim.env.now)
        sim.arrivals.changed(worker.stage, version)
        if not sim.over and progress.members == 0 and not expected(sim):
            staged = f"the last group has lost its stage {worker.stage + 1}"
            raise deadlock(sim, "every worker has left" if sim.pipeline is None else staged)

    def _live(self, worker: Worker) -> Generator[Any, Any, None]:
        """Rounds of the program, for ever; an interrupt ends the round, and its cause says what comes before the next.

        Who comes back begins a round, and only then hears of the crashes that are announced already.
        """
        sim = self._sim
        while True:
            try:
                back = not worker.up
                if back:
                    yield from self._return(worker)
                if worker.served is not None:  # what it pushed before the crash comes first
                    sim.spans.begin(worker, QUEUE)
                    yield worker.served
                while back or not worker.announced:
                    back = False
                    yield from sim.program.round(sim, worker)
                    worker.step += 1
                sim.spans.begin(worker, WAIT)
                yield sim.env.event()  # until it goes down
            except simpy.Interrupt as interrupt:
                self._abandon(worker)
                if self._interrupted(worker, interrupt.cause):
                    return
            except Exhausted:
                self._abandon(worker)
                self._interrupted(worker, faults.STOP)
                return

    def _return(self, worker: Worker) -> Generator[Any, Any, None]:
        """Be down, and then a member that is up again."""
        sim = self._sim
        sim.spans.begin(worker, DOWN)
        yield at(sim.env, RETURN, worker.down_until - sim.env.now)
        sim.spans.end(worker)
        worker.up = True
        if worker.absent:
            worker.absent = False
            sim.progress[worker.stage].readmit(worker.member)
        sim.progress[worker.stage].join(worker.member)

    def _abandon(self, worker: Worker) -> None:
        """Record what was done of the current activity; the program says what becomes of the work in flight."""
        if worker.activity != IDLE:
            self._sim.spans.end(worker, complete=False)
        worker.due = True
        self._sim.admission.leave(worker)
        self._sim.program.abandon(self._sim, worker)

    def _interrupted(self, worker: Worker, cause: faults.Cause | None) -> bool:
        """Act on an interrupt; True if the worker is gone for good."""
        if cause is faults.RECALL:
            self.recalled += 1
            return False
        if worker.absent and isinstance(cause, faults.Crash):  # it has left at this very instant
            return False
        sim = self._sim
        if worker.up:
            worker.up, worker.left, worker.stations = False, None, None
            sim.server.forget(worker.index)
            sim.progress[worker.stage].leave(worker.member)
            cut_off(worker)
        if isinstance(cause, faults.Crash):
            self.crashes += 1
            worker.down_until = max(worker.down_until, cause.until)
            sim.observers.crashed(worker)
        elif isinstance(cause, faults.Absence):
            worker.absent, worker.down_until = True, cause.until
            if worker.served is None:
                self.depart(worker)
        else:
            self._stop(worker)
        sim.admission.ask_again()
        sim.admission.check_deadlock()
        return worker.gone

    def _stop(self, worker: Worker) -> None:
        """The worker leaves for good."""
        sim = self._sim
        worker.gone = True
        sim.observers.span((STOP, worker.index, worker.step, -1, sim.env.now, sim.env.now, True))
        if worker.served is None:
            self.depart(worker)
        if sim.pipeline is not None:
            sim.pipeline.stop(worker)
