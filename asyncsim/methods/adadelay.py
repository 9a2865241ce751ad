"""AdaDelay: a rate that shrinks with the square root of the updates so far and the staleness together::

    lr_t  = lr / (offset + sqrt(t + tau))                t: this update, counted from 1
    theta <- theta - lr_t * (g + weight_decay * theta)   then the optimiser's momentum, as in ``asgd``

S. Sra, A. W. Yu, M. Li, A. Smola, "AdaDelay: Delay adaptive distributed stochastic optimization", AISTATS 2016. The rate ``c /
sqrt(t + tau)``, and ``1 / (L + c sqrt(t + tau))`` of its theory, are recalled (high confidence): with ``lr = 1 / c`` and ``offset
= L / c`` the latter is the equation above.

Order: ``t`` and ``tau`` are those of the arrival; the gradient and its weight decay are divided, then they enter the momentum.
Differs from the paper: there the rate is that of a projected step; with a momentum the divisor acts here on what enters the
velocity, with Adam on the finished update. A schedule multiplies ``lr`` as everywhere: leave it constant for the paper's rule.
"""

from __future__ import annotations

import math

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica


class AdaDelaySettings(Spec):
    """The fields of the transform, and of the method that holds one."""

    offset: float = Field(default=0.0, ge=0)


@policies.register("adadelay")
class AdaDelayRate(AdaDelaySettings, Transform):
    """Divide the ``t``-th update by ``offset + sqrt(t + tau)``; Sra et al. 2016, recalled."""

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        divisor = self.offset + math.sqrt(server.version + 1 + push.staleness)
        if divisor > 1.0:
            push.penalise(divisor)
        return push


@methods.register("adadelay")
class AdaDelay(AdaDelaySettings, Method):
    """AdaDelay, Sra et al. 2016: the rate is ``lr / (offset + sqrt(t + tau))`` at the ``t``-th update."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(AdaDelayRate),), optimizer, ASP(), Replica())
