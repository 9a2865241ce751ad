"""The clock: virtual time has a last instant, and nothing is scheduled after it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush

import simpy
from simpy.events import NORMAL, EventPriority

from asyncsim.errors import UserError
from asyncsim.units import LAST_NS


class OutOfTime(UserError):
    """An event would happen after the last instant of virtual time."""


class Clock(simpy.Environment):
    """Virtual time in integer nanoseconds from 0 to ``LAST_NS``.

    An event that would come later is refused when it is scheduled; ``refusal`` makes the error from the delay.
    """

    _now: int

    def __init__(self, refusal: Callable[[int], OutOfTime]) -> None:
        super().__init__(initial_time=0)
        self._refusal = refusal

    @property
    def now(self) -> int:
        """The virtual time in nanoseconds."""
        return self._now

    def schedule(self, event: simpy.Event, priority: EventPriority = NORMAL, delay: float = 0) -> None:
        at = self._now + delay
        if at > LAST_NS:
            raise self._refusal(int(delay))
        heappush(self._queue, (at, priority, next(self._eid), event))
