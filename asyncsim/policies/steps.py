"""Step rules of the textbooks: ``params <- params - lr * direction``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from asyncsim.messages import Push, ServerView
from asyncsim.policies.momentum import HeavyBall, Moments, Velocity
from asyncsim.policies.step_rule import StepRule, buffer, is_one, optimizers

if TYPE_CHECKING:
    from torch import Tensor


@optimizers.register("sgd")
class SGD(HeavyBall):
    """``d = (g + wd * theta) / penalty``, ``v <- momentum * v + d``; direction ``v`` (heavy ball) or ``d + momentum * v``
    (Nesterov), PyTorch's convention. Without penalty the bits are those of ``torch.optim.SGD``.
    """

    momentum: float = Field(default=0.0, ge=0, lt=1)
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> SGD:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self

    def momentum_step(self, d: Tensor, push: Push, state: Velocity, server: ServerView) -> Tensor:
        velocity = super().momentum_step(d, push, state, server)
        return d.add(velocity, alpha=self.momentum) if self.nesterov else velocity

    def velocity(self, state: Velocity, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)


@optimizers.register("adam")
class Adam(StepRule):
    """Adam (Kingma and Ba 2015), or AdamW with ``decoupled`` weight decay (Loshchilov and Hutter 2019).

    Adam divides a constant factor of the gradient out again, so the penalty scales the *update*: moments see the plain
    gradient, and the finished direction is divided by the penalty.
    """

    lr: float = Field(default=1e-3, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    decoupled: bool = False

    def init(self, params: Tensor | None, num_workers: int) -> Moments:
        return Moments()

    def direction(self, push: Push, state: Moments, server: ServerView) -> Tensor:
        gradient = push.gradient
        if self.weight_decay and not self.decoupled:
            gradient = gradient.add(server.params, alpha=self.weight_decay)
        state.accumulate(self.beta1, self.beta2, gradient)
        update = state.direction(self.beta1, self.beta2, self.eps)
        if self.weight_decay and self.decoupled:
            update.add_(server.params, alpha=self.weight_decay)
        return update if is_one(push.penalty) else update.div_(push.penalty)


def heavy_ball(optimizer: StepRule, who: str) -> dict[str, float]:
    """Rate, decay and momentum of an optimizer that has one, for a step rule of ``who`` that takes them over; ``ValueError`` for
    any other optimizer."""
    if not isinstance(optimizer, SGD) or optimizer.nesterov:
        given = "nesterov" if isinstance(optimizer, SGD) else optimizer.kind
        raise ValueError(f"{who} takes the heavy-ball momentum of the optimizer sgd, not {given}")
    return {"lr": optimizer.lr, "weight_decay": optimizer.weight_decay, "momentum": optimizer.momentum}
