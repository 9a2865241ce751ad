"""The order of what happens at one instant of virtual time; ``docs/determinism.md`` has it as a table.

SimPy serves events by (time, priority, order of scheduling). It interrupts at priority 0, and whatever is due (the ends of
computing, of transfers and of service, and all that follows from them at once) comes at priority 1. What else has a time of its
own is put before, between or behind by the priorities below, smallest first, so that no tie depends on what was scheduled when.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import simpy

if TYPE_CHECKING:
    from simpy.events import EventPriority

    from asyncsim.simulation.clock import Clock

Priority = float
LIMIT: Priority = -7  # the virtual time of the run is up
EVALUATION: Priority = -6  # one that goes by virtual time
SAVE: Priority = -5  # of the server
SERVER: Priority = -4  # it crashes or restarts
STOPPING: Priority = -3  # a worker leaves for good
ABSENCE: Priority = -2  # it leaves the group for a while
LOSS: Priority = -1  # it crashes, by its own faults, with its zone, for maintenance or by an event
# 0: interrupts; all of the losses above take effect here
RETURN: Priority = 0.25  # it is back, or joins, and begins
NOTICE: Priority = 0.5  # it is told that it will crash
# 1: what is due
ITEM: Priority = 1.25  # of a stream: it arrives, and is predicted
TAKING: Priority = 1.5  # a worker begins with an item
CLOSING: Priority = 2  # a group of pushes is closed; what arrives at that instant is in it
DECISION: Priority = 3  # a consistency rule that goes by the clock says who may read


def at(env: Clock, priority: Priority, after: int) -> simpy.Event:
    """An event ``after`` so many nanoseconds from now, with its place in the order of what happens at that instant."""
    event = simpy.Event(env)
    event._ok, event._value = True, None
    rank: EventPriority = priority  # type: ignore[assignment]  # SimPy compares priorities and asks no more of them
    env.schedule(event, rank, after)
    return event
