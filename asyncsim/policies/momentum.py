"""Running means of directions and gradients, as the states of step rules keep them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asyncsim.policies.state import State

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
