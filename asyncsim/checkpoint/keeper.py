"""Save a run from time to time."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asyncsim.checkpoint.cadence import DEFAULT, Cadence
from asyncsim.checkpoint.packing import Unsaveable
from asyncsim.checkpoint.state import capture
from asyncsim.errors import UserError
from asyncsim.records.checkpoints import write_checkpoint
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.simulation import Simulation

SHARE = 0.05
"""Largest share of the wall time that checkpoints may cost at the default cadence; where they are large, they are written less
often."""


class Keeper:
    """An observer that writes checkpoints of a run at its cadence; without one, every minute of wall time, seldomer if large.

    ``identity`` holds what must be the same when a checkpoint is used. ``started`` is the moment (``perf_counter``) at which
    the run would have begun, had it never been interrupted.
    """

    def __init__(self, sim: Simulation, cadence: Cadence | None, identity: Callable[[], dict[str, Any]], started: float) -> None:
        self.sim = sim
        self.explicit = cadence is not None
        self.cadence = cadence or DEFAULT
        self.identity = identity
        self.started = started
        self.off = self.cadence == Cadence()
        self._cost = 0.0
        self._next: float = 0
        self._plan()

    def due(self) -> bool:
        """Is it time to save? This is asked after every event."""
        if self.off:
            return False
        if self.cadence.updates is not None:
            return self.sim.server.version >= self._next
        if self.cadence.time is not None:
            return self.sim.env.now >= self._next
        return time.monotonic() >= self._next

    def turn(self, now: int) -> None:
        """Save the run between two events, if it is time."""
        if not self.off and ((self.sim.over and self.cadence.end) or (not self.sim.over and self.due())):
            self.save()

    def save(self) -> None:
        """Write a checkpoint. Raises ``UserError`` if the disk is full, or if something cannot be saved and the scenario asks
        for checkpoints."""
        begun = time.monotonic()
        sim = self.sim
        tables = sim.recorder.position()
        try:
            state, arrays = capture(sim)
        except Unsaveable as error:
            message = f"checkpoints: {error}, which cannot be saved; states hold tensors, arrays, numbers, strings, lists, dicts"
            if self.explicit:
                raise UserError(f"{message}; mend it, or ask for none with `checkpoint: {{}}`") from None
            warnings.warn(f"{message}. This run cannot be resumed", stacklevel=2)
            self.off = True
            return
        header = {
            "identity": self.identity(), "tables": tables, "state": state, "wall_seconds": time.perf_counter() - self.started,
        }  # fmt: skip
        directory = sim.recorder.directory
        assert directory is not None, "checkpoints are in a run's folder"
        write_checkpoint(directory, header, arrays)
        self._cost = time.monotonic() - begun
        self._plan()

    def _plan(self) -> None:
        cadence = self.cadence
        if cadence.updates is not None:
            self._next = self.sim.server.version // cadence.updates * cadence.updates + cadence.updates
        elif cadence.time is not None:
            every = max(1, nanoseconds(cadence.time))
            self._next = self.sim.env.now // every * every + every
        elif cadence.minutes is not None:
            pause = 60.0 * cadence.minutes
            self._next = time.monotonic() + (pause if self.explicit else max(pause, self._cost / SHARE))
        else:
            self._next = float("inf")
