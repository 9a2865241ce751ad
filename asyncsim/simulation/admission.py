"""Who waits to read or to send, and when the consistency rule lets them: when something has happened, or by the clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.needs import Need
from asyncsim.simulation.deadlocks import deadlock, stuck
from asyncsim.simulation.patience import STALLED

if TYPE_CHECKING:
    import simpy

    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker


class Admission:
    """The waiting line of ``sim``. Where the rule makes nobody wait, it is never asked."""

    def __init__(self, sim: SimulationView) -> None:
        self._sim = sim
        self.asks = Need.WAITS in sim.consistency.needs | sim.program.needs
        self.waiting: dict[int, simpy.Event] = {}  # by worker, in the order in which they came
        self._with_results: set[int] = set()  # of them, those that wait to send
        self._looked_at = self._look()
        self._fruitless = 0  # decisions by the clock since anybody was admitted or at work

    def join(self, worker: Worker, to_send: bool = False) -> simpy.Event | None:
        """The event at which the worker may read, or send the result that it has; None: it may now."""
        if not self.asks:
            return None
        if to_send:
            self._with_results.add(worker.index)
        else:
            self._with_results.discard(worker.index)
        if self._admits(worker):
            return None
        event = self.waiting[worker.index] = self._sim.env.event()
        self.check_deadlock()
        return event

    def leave(self, worker: Worker) -> None:
        """The worker has been interrupted and waits no more."""
        self.waiting.pop(worker.index, None)

    def ask_again(self) -> None:
        """Ask the rule again for those that wait, first come first served, where what it looks at has changed."""
        if not self.asks:
            return
        seen = self._look()
        if seen == self._looked_at:
            return
        self._looked_at = seen
        for index in [index for index in self.waiting if self._admits(self._sim.workers[index])]:
            self.waiting.pop(index).succeed()

    def decide(self) -> None:
        """The time of a rule that goes by the clock has come: it says who of those that wait may read."""
        sim = self._sim
        waiting = list(self.waiting)
        chosen = sim.consistency.decides(waiting, sim.progress[0])
        self._fruitless = 0 if chosen or len(waiting) < sim.progress[0].members else self._fruitless + 1
        if self._fruitless > STALLED:
            raise deadlock(sim, f"{STALLED:,} times one after the other nobody was let in")
        for index in waiting:
            if index in chosen:
                self.waiting.pop(index).succeed()

    def check_deadlock(self) -> None:
        """Raise ``Deadlock`` if every worker waits."""
        if self.waiting and stuck(self._sim):
            raise deadlock(self._sim, "every worker waits")

    def _admits(self, worker: Worker) -> bool:
        rule = self._sim.consistency
        ask = rule.sends if worker.index in self._with_results else rule.admits
        return ask(worker.member, self._sim.progress[worker.stage])

    def _look(self) -> list[object]:
        return [self._sim.consistency.watches(progress) for progress in self._sim.progress]
