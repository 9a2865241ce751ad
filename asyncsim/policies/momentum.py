"""Momentum: running means of directions and gradients, as the states of parts keep them, and step rules that build on one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.policies.scalars import scalar
from asyncsim.policies.state import State
from asyncsim.policies.step_rule import StepRule

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Velocity(State):
    """The momentum buffer of heavy-ball SGD, shape ``(P,)``; None before the first step."""

    velocity: Tensor | None = None

    def accumulate(self, momentum: float | Tensor, direction: Tensor) -> Tensor:
        """``v <- momentum * v + direction``, in place, where the first ``v`` is the first ``direction``. Returns ``v``."""
        if self.velocity is None:
            self.velocity = direction.clone()
        else:
            self.velocity.mul_(momentum).add_(direction)
        return self.velocity


@dataclass(slots=True)
class Moments(State):
    """Adam's running means of the gradient and of its square, shape ``(P,)`` each; None before the first step."""

    steps: int = 0
    first: Tensor | None = None
    second: Tensor | None = None

    def accumulate(self, beta1: float, beta2: float, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Take one more gradient into both means, in place; before the first they are zero. Returns them."""
        first, second = self.first, self.second
        if first is None or second is None:
            first = self.first = gradient.new_zeros(gradient.shape)
            second = self.second = gradient.new_zeros(gradient.shape)
        self.steps += 1
        return first.lerp_(gradient, 1.0 - beta1), second.mul_(beta2).addcmul_(gradient, gradient, value=1.0 - beta2)

    def direction(self, beta1: float, beta2: float, eps: float) -> Tensor:
        """Adam's direction, a new tensor: the mean over the root of the mean square, both freed of their bias towards zero."""
        first, second = self.first, self.second
        assert first is not None, "a gradient has been taken in"
        assert second is not None, "a gradient has been taken in"
        root = second.sqrt().div_((1.0 - beta2**self.steps) ** 0.5).add_(eps)
        return first.div(root).div_(1.0 - beta1**self.steps)


class HeavyBall(StepRule):
    """A step rule with one ``momentum`` for all pushes, whose state is a ``Velocity`` or derived from it. Without momentum it is
    plain SGD, otherwise the step is that of ``momentum_step``: heavy ball, or what a rule makes of it."""

    momentum: float = Field(default=0.9, ge=0, lt=1)

    def init(self, params: Tensor | None, num_workers: int) -> Velocity:
        return Velocity()

    def direction(self, push: Push, state: Any, server: ServerView) -> Tensor:
        d = self.decayed(push, server)
        return self.momentum_step(d, push, state, server) if self.momentum else d

    def momentum_step(self, d: Tensor, push: Push, state: Any, server: ServerView) -> Tensor:
        """The direction that momentum makes of ``d``, the push's gradient with weight decay and penalty, shape ``(P,)``."""
        velocity: Tensor = state.accumulate(scalar(self.momentum, d), d)
        return velocity


def decayed_at_worker(gradient: Tensor, push: Push, weight_decay: float) -> Tensor:
    """``gradient + weight_decay * s`` at the parameters ``s`` that the worker read, shape ``(P,)``."""
    if not weight_decay:
        return gradient
    assert push.snapshot.params is not None, "its gradient is there"
    return gradient.add(push.snapshot.params, alpha=weight_decay)
