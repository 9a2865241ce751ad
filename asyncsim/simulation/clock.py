"""The clock: virtual time has a last instant, and nothing is scheduled after it."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappush
from typing import TYPE_CHECKING

import simpy
from simpy.events import NORMAL, EventPriority

from asyncsim.errors import UserError
from asyncsim.records.rows import EVENT_KINDS
from asyncsim.units import LAST_NS, NANOSECONDS

if TYPE_CHECKING:
    from asyncsim.simulation.simulation import Simulation

LONG = 10**8 * NANOSECONDS
"""Three years in seconds. Longer durations may be time stamps taken for durations: those of 1973 and later are above it."""


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


def out_of_time(sim: Simulation, delay: int) -> OutOfTime:
    """The error, which says who does what at that moment."""
    active = sim.env.active_process
    who = next((worker for worker in sim.workers if active in (worker.process, worker.sending)), None)
    if active is None or who is None:
        what = "an outage, or another thing that comes in turn,"
    elif active is who.sending:
        what = f"`upload` of worker {who.index}"
    else:
        what = f"`{EVENT_KINDS[who.activity]}` of worker {who.index}" if who.activity >= 0 else f"a push of worker {who.index}"
    hint = "; are the durations time stamps?" if LONG < delay <= LAST_NS else ""
    return OutOfTime(
        f"virtual time would pass its end, 2^63 ns (292 years), after update {sim.server.updates:,}: "
        f"{what} begun at {_seconds(sim.env.now)} s takes {_seconds(delay)} s{hint}"
    )


def _seconds(nanoseconds: int) -> str:
    """Of any size: slowdowns may multiply to more than a float holds."""
    seconds = nanoseconds // NANOSECONDS
    return f"{nanoseconds / NANOSECONDS:.6g}" if seconds < 10**300 else f"1e{len(str(seconds)) - 1}"
