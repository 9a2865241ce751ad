"""Close groups of pushes at the time that their policy has asked for, whatever has arrived until then."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from asyncsim.simulation.instants import CLOSING, at

if TYPE_CHECKING:
    import simpy

    from asyncsim.simulation.view import SimulationView


class Closings:
    """Asks the policy of a shard after every arrival when it wants to be settled, and settles it at that time.

    A group that was complete before its time is not closed again: the event that was scheduled for it does nothing.
    """

    def __init__(self, sim: SimulationView) -> None:
        self.sim = sim
        self._due: list[int | None] = [None] * len(sim.progress)  # by stage, in ns

    @property
    def pending(self) -> bool:
        """Will any group still be closed at a time of its own? Then workers that wait for an update do not wait for ever."""
        return any(due is not None for due in self._due)

    def look(self, stage: int) -> None:
        """Schedule the time that the policy of the shard asks for now."""
        due = self.sim.server.closes(stage)
        if due is not None and due != self._due[stage]:
            self._due[stage] = due
            after = max(0, due - self.sim.env.now)
            at(self.sim.env, CLOSING, after).callbacks.append(partial(self._close, stage, due))

    def _close(self, stage: int, due: int, _: simpy.Event) -> None:
        sim = self.sim
        if self._due[stage] != due or sim.over:
            return
        self._due[stage] = None
        version = sim.progress[stage].version
        sim.server.close(stage, sim.env.now)
        sim.arrivals.changed(stage, version)
        self.look(stage)
        sim.admission.check_deadlock()
