"""The limits after which a run that makes no progress is given up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.simulation.deadlocks import deadlock, fruitless

if TYPE_CHECKING:
    from asyncsim.messages import Snapshot
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker

STALLED = 1_000_000
"""The number of pushes and crashes without an update after which a run is given up; at least 100 for each worker."""
FRUITLESS = 50_000
"""The number of crashes without a push after which a run is given up; at least 10 for each worker."""
EVENTS = 16
"""How many times more events of any kind than pushes and crashes may happen without an update."""


class Patience:
    """An observer. Counts what has happened in ``sim`` since the last update and the last push."""

    def __init__(self, sim: SimulationView) -> None:
        self._sim = sim
        self._stalled = max(STALLED, 100 * len(sim.workers))
        self._fruitless = max(FRUITLESS, 10 * len(sim.workers))
        self._updated = (0, 0)  # pushes and crashes at the last update
        self._delivered = 0  # crashes at the last push
        self._steps = 0  # events at the last update

    def acted(self, stage: int, updated: bool) -> None:
        """A shard has acted; mostly it has a new version."""
        if updated:
            self._updated = self._sim.server.pushes, self._sim.lives.crashes
            self._steps = self._sim.steps
        else:
            self._check()

    def arriving(self, worker: Worker, step: int, snapshot: Snapshot) -> None:
        """A push has come."""
        self._delivered = self._sim.lives.crashes

    def crashed(self, worker: Worker) -> None:
        """A worker has crashed."""
        self._check()

    def look(self) -> None:
        """Raise ``Deadlock`` after very many events without an update. It looks after certain events only, so that it does not
        matter how often it is asked."""
        sim = self._sim
        events = sim.steps - self._steps
        if events > EVENTS * self._stalled and not (sim.over or sim.steps & 0xFF):
            raise deadlock(sim, f"{events:,} events happened without an update")

    def _check(self) -> None:
        """Raise ``Deadlock`` if nothing has come of too much."""
        sim = self._sim
        if sim.lives.crashes - self._delivered > self._fruitless:
            raise fruitless(sim, sim.lives.crashes - self._delivered)
        pushes, crashes = sim.server.pushes - self._updated[0], sim.lives.crashes - self._updated[1]
        if pushes + crashes > self._stalled:
            raise deadlock(sim, f"{pushes:,} pushes were buffered or dropped and {crashes:,} crashes happened without an update")
