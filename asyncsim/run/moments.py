"""How far a run is that goes on, for a progress display."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from asyncsim.simulation.server import Server
from asyncsim.units import NANOSECONDS


class Moment(NamedTuple):
    """What a progress display may show of a run that goes on."""

    done: float  # fraction of the run
    updates: int
    pushes: int
    time: float  # virtual seconds
    metrics: dict[str, float]  # of the last evaluation
    diverged: bool


Progress = Callable[[Moment], None]
SHOWN_EVERY = 0.1
"""Wall seconds between two calls of a ``Progress``."""


def moment(server: Server, now: int) -> Moment:
    """Where a run is at ``now`` (ns)."""
    done = server.length.done(server.updates, server.samples, now)
    return Moment(
        min(1.0, done), server.updates, server.pushes, now / NANOSECONDS, dict(server.last_metrics), server.diverged is not None
    )  # fmt: skip


class Display:
    """An observer that shows how far a run is, ten times a second of wall time at most."""

    def __init__(self, server: Server, show: Progress, started: float) -> None:
        self._server, self._show, self._shown = server, show, started

    def turn(self, now: int) -> None:
        if time.perf_counter() - self._shown > SHOWN_EVERY:
            self._shown = time.perf_counter()
            self._show(moment(self._server, now))
