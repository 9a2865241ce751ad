"""FedAsync: move the server's parameters part of the way to the worker's model."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from asyncsim.needs import Need
from asyncsim.policies.push import Push, ServerView, Verdict
from asyncsim.policies.transform import State, Transform, policies


@policies.register("mixing")
class Mixing(Transform):
    """``theta <- (1 - a) theta + a x`` with ``a = rate * (1 + tau) ** -power``; Xie, Koyejo, Gupta 2019 (arXiv 1903.03934).

    ``x = s - D`` is the worker's model after its local steps, so the pseudo-gradient becomes ``theta - x = D + (theta - s)``
    and the update is divided by ``1 / a``. Meant for a server learning rate of 1 without momentum; then ``rate = 1`` at
    staleness 0 replaces the server's model.
    """

    rate: float = Field(0.6, gt=0, le=1)
    power: float = Field(0.5, ge=0)
    needs: ClassVar[Need] = Need.VALUES

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        if push.snapshot.params is not server.params:
            push.replaced = push.gradient + (server.params - push.snapshot.params)
        divisor = (1.0 + push.staleness) ** self.power / self.rate
        if divisor != 1.0:
            push.penalise(divisor)
        return push
