"""The error of a run that would pass the last instant of virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.records.rows import EVENT_KINDS
from asyncsim.simulation.clock import OutOfTime
from asyncsim.units import LAST_NS, NANOSECONDS

if TYPE_CHECKING:
    from asyncsim.simulation.view import SimulationView

LONG = 10**8 * NANOSECONDS
"""Three years in seconds. Longer durations may be time stamps taken for durations: those of 1973 and later are above it."""


def out_of_time(sim: SimulationView, delay: int) -> OutOfTime:
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
