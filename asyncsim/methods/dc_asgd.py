"""DC-ASGD: correct a stale gradient with a diagonal estimate of the Hessian."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.transform import State, Transform, policies

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("delay_compensation")
class DelayCompensation(Transform):
    """``g <- g + lambda * g * g * (theta - s)``, elementwise; Zheng et al., ICML 2017.

    Constant form (DC-ASGD-c): ``lambda = strength``. Adaptive form (DC-ASGD-a): per worker
    ``m <- decay * m + (1 - decay) * g * g`` and ``lambda = strength / sqrt(m + eps)``. Constants and the place of ``eps``
    (inside the root) follow the updater in Microsoft's Multiverso. ``s`` is what the worker really read.
    """

    needs: ClassVar[Need] = Need.VALUES
    strength: float = Field(2.0, ge=0)
    adaptive: bool = True
    decay: float = Field(0.95, ge=0, lt=1)
    eps: float = Field(1e-7, gt=0)

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"square": {}}  # worker -> (P,)

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        gradient = push.gradient
        square = gradient * gradient
        if self.adaptive:
            mean = state["square"].get(push.worker)
            mean = square * (1.0 - self.decay) if mean is None else mean * self.decay + square * (1.0 - self.decay)
            state["square"][push.worker] = mean
        if push.snapshot.params is server.params or self.strength == 0.0:
            return push
        correction = square.mul_(server.params - push.snapshot.params).mul_(self.strength)
        if self.adaptive:
            correction.div_((mean + self.eps).sqrt_())
        push.replaced = correction.add_(gradient)
        return push
