"""Spans of a worker's time, from when it begins an activity until it ends or is interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.simulation.activities import DOWN, IDLE, QUEUE, SERVE, WAIT

if TYPE_CHECKING:
    from asyncsim.simulation.clock import Clock
    from asyncsim.simulation.observers import Observers
    from asyncsim.simulation.worker import Worker

class Spans:
    """Marks what each worker is at, so that an interrupt can record the part that was done. Observers are told every span
    that has ended."""

    def __init__(self, env: Clock, observers: Observers) -> None:
        self._env = env
        self._observers = observers

    def begin(self, worker: Worker, activity: int) -> None:
        """The worker turns to an activity (index into ``EVENT_KINDS``)."""
        worker.activity, worker.since = activity, self._env.now

    def end(self, worker: Worker, complete: bool = True) -> None:
        """The activity has ended, or was cut short. What took no time leaves no span, unless it was cut short."""
        now = self._env.now
        if worker.activity == QUEUE and now > worker.serve_from:
            if worker.serve_from > worker.since:
                self._observers.span((QUEUE, worker.index, worker.step, worker.version, worker.since, worker.serve_from, True))
            worker.activity, worker.since = SERVE, max(worker.since, worker.serve_from)
        if now > worker.since or not complete:
            version = -1 if worker.activity in (WAIT, DOWN) else worker.version
            self._observers.span((worker.activity, worker.index, worker.step, version, worker.since, now, complete))
        worker.activity = IDLE
