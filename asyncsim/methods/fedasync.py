"""FedAsync: on every arrival the server moves part of the way to the worker's model, a smaller part the staler it is::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x
    server:  a = rate * (1 + tau)^(-power);    theta <- (1 - a) * theta + a * x

C. Xie, S. Koyejo, I. Gupta 2019 (arXiv 1903.03934). The rule is recalled (high confidence).

Order: the pseudo-gradient becomes ``theta - x = D + (theta - s)`` and is divided by ``1 / a``; the optimiser's step with rate 1
and without momentum is then the equation. ``factor`` is the schedule's at the read. The worker reads again at once.
Left out: the proximal term of the local objective, and the constant and hinge weights: for those put ``staleness_aware`` into
``before`` and set ``power: 0``.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec


class MixingSettings(Spec):
    """The fields of the transform, and of the method that holds one."""

    rate: float = Field(default=0.6, gt=0, le=1)
    power: float = Field(default=0.5, ge=0)


@policies.register("mixing")
class Mixing(MixingSettings, Transform):
    """``theta <- (1 - a) theta + a x`` with ``a = rate * (1 + tau) ** -power``; Xie, Koyejo, Gupta 2019 (arXiv 1903.03934).

    Meant for a server learning rate of 1 without momentum; then ``rate = 1`` at staleness 0 replaces the server's model.
    """

    needs: ClassVar[Need] = Need.VALUES

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        handed = push.snapshot.params
        if handed is not None and handed is not server.params:
            push.replaced = push.gradient + (server.params - handed)
        divisor = (1.0 + push.staleness) ** self.power / self.rate
        if divisor != 1.0:
            push.penalise(divisor)
        return push


@methods.register("fedasync")
class FedAsync(MixingSettings, LocalMethod):
    """FedAsync, Xie et al. 2019: the server moves ``rate * (1 + tau) ** -power`` of the way to the worker's model."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(Mixing),), optimizer, ASP(), self.local())
