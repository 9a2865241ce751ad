"""A method of one's own, put together in a scenario: transforms of arriving pushes in order, a step rule, and by the fields that
every method has a consistency rule and a program. No paper: what no file here has."""

from __future__ import annotations

from typing import Annotated

from asyncsim.consistency import ASP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule, Transform
from asyncsim.policies.step_rule import optimizers
from asyncsim.policies.transform import policies
from asyncsim.simulation.programs import Replica


@methods.register("custom")
class Custom(Method):
    """Your own chain: the transforms of ``policy`` in order, then the optimiser."""

    policy: tuple[Annotated[Transform, policies], ...] = ()
    step: Annotated[StepRule, optimizers] | None = None

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle(self.policy, self.step or optimizer, ASP(), Replica())
