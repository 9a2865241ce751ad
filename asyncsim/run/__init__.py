"""From a scenario to a result: begin a run, carry it out, record it."""

from asyncsim.run.beginning import Given, plan, proceed, reusable, simulate, taken
from asyncsim.run.conditions import identity, versions
from asyncsim.run.execution import Wait
from asyncsim.run.moments import Moment, Progress
from asyncsim.run.preparing import prepared

__all__ = [
    "Given", "Moment", "Progress", "Wait", "identity", "plan", "prepared", "proceed", "reusable", "simulate", "taken", "versions",
]  # fmt: skip
