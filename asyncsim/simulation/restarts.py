"""Crashes of the server, after which it comes back with what it saved last."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from asyncsim.simulation.deadlocks import deadlock
from asyncsim.simulation.instants import SAVE, SERVER, at
from asyncsim.streams import Draws, Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    import simpy

    from asyncsim.cluster import ServerSpec
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker

FRUITLESS = 10_000  # restarts without any progress of the model after which a run is given up


class Restarts:
    """Saves, crashes and restarts the server of ``sim``, and keeps what waits for it meanwhile.

    - up: it saves itself at time 0 and at every multiple of ``checkpoint``;
    - crash: parameters and policy are again those of the last save, and what was buffered is lost;
    - down: nothing is served or read; a service that was interrupted goes on afterwards;
    - restart: it makes one new version, so that a version still names one set of parameters.
    """

    def __init__(self, sim: Verbs, server: ServerSpec, streams: Streams) -> None:
        assert server.faults is not None
        self.sim = sim
        self.count = 0
        self.lost_updates = 0
        self.back: simpy.Event | None = None  # the next restart, while the server is down
        self._progress = sim.progress[0]
        self._saved = 0  # updates that the saved parameters have had
        self._best = 0  # the largest number of updates that any parameters have had
        self._fruitless = 0
        self._due: dict[Worker, int] = {}  # when their pushes will have been served (ns), as far as is known now
        self._up = Draws(streams, "server up", (), server.faults.up.sample)
        self._down = Draws(streams, "server down", (), server.faults.down.sample)
        sim.server.save()
        sim.env.process(self._saves(max(1, nanoseconds(server.checkpoint or 0.0))))
        sim.env.process(self._crashes())

    def wait(self, worker: Worker) -> Generator[Any, Any, None]:
        """Wait until the server is up."""
        while self.back is not None:
            yield from self.sim.wait(worker, self.back)

    def serve(self, worker: Worker, due: int, served: Callable[[simpy.Event], None]) -> simpy.Event:
        """Call ``served`` at ``due`` (ns), or later by the time for which the server is down until then. Returns an event that
        happens just after it."""
        event = self.sim.env.event()
        self._due[worker] = due
        self._watch(worker, event, served)
        return event

    def _watch(self, worker: Worker, event: simpy.Event, served: Callable[[simpy.Event], None]) -> None:
        def look(timer: simpy.Event) -> None:
            if self._due[worker] > self.sim.env.now:
                self._watch(worker, event, served)
                return
            del self._due[worker]
            served(timer)
            event.succeed()

        self.sim.env.timeout(self._due[worker] - self.sim.env.now).callbacks.append(look)

    def _saves(self, every: int) -> Generator[Any, Any, None]:
        while True:
            yield at(self.sim.env, SAVE, every)
            if self.back is None:
                self.sim.server.save()
                self._saved = self._progress.standing

    def _crashes(self) -> Generator[Any, Any, None]:
        env = self.sim.env
        while True:
            yield at(env, SERVER, nanoseconds(self._up[self.count]))
            down = nanoseconds(self._down[self.count])
            self._crash(down)
            yield at(env, SERVER, down)
            self._restart()

    def _crash(self, down: int) -> None:
        now, progress = self.sim.env.now, self._progress
        lost = progress.standing - self._saved
        self._fruitless = 0 if progress.standing > self._best else self._fruitless + 1
        self._best = max(self._best, progress.standing)
        self.lost_updates += lost
        progress.undone += lost
        self.sim.server.crash()
        self.sim.arrivals.queues[0].pause(now, now + down)
        for worker in self._due:
            self._due[worker] += down
            if worker.serve_from >= now:
                worker.serve_from += down
        self.back = self.sim.env.event()

    def _restart(self) -> None:
        progress = self._progress
        self.count += 1
        version = progress.version
        progress.undone += 1
        self.sim.server.restart(self.sim.env.now)
        if self.back is not None:
            self.back.succeed()
            self.back = None
        self.sim.arrivals.changed(0, version)
        if self._fruitless > FRUITLESS and not self.sim.over:
            raise deadlock(self.sim, f"{FRUITLESS:,} restarts of the server without any progress of the model")
