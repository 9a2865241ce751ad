"""From a scenario to a result: begin a run, carry it out, record it."""

from asyncsim.run.beginning import ScenarioLike, as_scenario, plan, proceed, reusable, simulate
from asyncsim.run.conditions import identity, versions
from asyncsim.run.execution import Wait
from asyncsim.run.moments import Moment, Progress
from asyncsim.run.preparing import prepared

__all__ = [
    "Moment", "Progress", "ScenarioLike", "Wait", "as_scenario", "identity", "plan", "prepared", "proceed", "reusable",
    "simulate", "versions",
]  # fmt: skip
