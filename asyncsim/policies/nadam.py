"""Adam with Nesterov's momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.policies.momentum import Moments
from asyncsim.policies.step_rule import StepRule, optimizers

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class NAdamMoments(Moments):
    """Adam's moments, and the product of all momenta ``mu`` so far."""

    product: float = 1.0


@optimizers.register("nadam")
class NAdam(StepRule):
    """NAdam: Adam with Nesterov's momentum, in PyTorch's form.

    The rule of Dozat 2016, with the momentum ``mu_t = beta1 * (1 - 0.5 * 0.96^(t * momentum_decay))``::

        direction = ((1 - mu_t) / (1 - M_t) * g  +  mu_{t+1} / (1 - M_{t+1}) * m) / (sqrt(v / (1 - beta2^t)) + eps)

    ``m``, ``v`` are Adam's moments and ``M_t`` the product of all ``mu`` so far. ``decoupled`` weight decay is AdamW's. The
    penalty divides the finished direction, as for ``adam``.
    """

    lr: float = Field(default=2e-3, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    momentum_decay: float = Field(default=4e-3, ge=0)
    decoupled: bool = False

    def init(self, params: Tensor | None, num_workers: int) -> NAdamMoments:
        return NAdamMoments()

    def direction(self, push: Push, state: NAdamMoments, server: ServerView) -> Tensor:
        gradient = push.gradient
        if self.weight_decay and not self.decoupled:
            gradient = gradient.add(server.params, alpha=self.weight_decay)
        first, second = state.accumulate(self.beta1, self.beta2, gradient)
        step = state.steps
        now, then = self._momentum(step), self._momentum(step + 1)
        state.product = product = state.product * now
        root = second.div(1.0 - self.beta2**step).sqrt_().add_(self.eps)
        update = first.mul(then / (1.0 - product * then)).add_(gradient, alpha=(1.0 - now) / (1.0 - product)).div_(root)
        if self.weight_decay and self.decoupled:
            update.add_(server.params, alpha=self.weight_decay)
        return update.div_(push.penalty)

    def _momentum(self, step: int) -> float:
        return self.beta1 * (1.0 - 0.5 * 0.96 ** (step * self.momentum_decay))
