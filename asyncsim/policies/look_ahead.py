"""Nesterov's method for stale gradients: workers read a look-ahead, and the gradient is discounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.policies.push import Push, ServerView
from asyncsim.policies.steps import StepRule, optimizers
from asyncsim.policies.transform import State

if TYPE_CHECKING:
    from torch import Tensor


@optimizers.register("look_ahead_momentum")
class LookAheadMomentum(StepRule):
    """Nesterov momentum for stale gradients: workers are handed a look-ahead, and the gradient is discounted.

    The rule of Ajanthan et al. 2025 (arXiv 2505.01099)::

        v <- momentum * v + (1 - momentum) * d          theta <- theta - lr * v
        a worker is handed  theta - lr * momentum * v

    For a constant ``lr`` this is their ``w_{t+1} = w_t + d_t - eta (1 - gamma) grad f(w_t + d_t)`` with
    ``d_t = gamma (w_t - w_{t-1})``; where a schedule moves, the velocity is scaled by the new rate, as in PyTorch. Without
    ``discount`` the factor ``1 - momentum`` is left out. Momentum 0 is SGD. Their experiments use NAdam.
    """

    momentum: float = Field(0.9, ge=0, lt=1)
    discount: bool = True

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"velocity": None}  # (P,), from the first step on

    def direction(self, push: Push, state: State, server: ServerView) -> Tensor:
        d = self.decayed(push, server)
        if not self.momentum:
            return d
        if self.discount:
            d.mul_(1.0 - self.momentum)
        state["velocity"] = d.clone() if state["velocity"] is None else state["velocity"].mul(self.momentum).add_(d)
        return state["velocity"]

    def view(self, params: Tensor, state: State, server: ServerView, worker: int) -> Tensor:
        if not self.momentum or state["velocity"] is None:
            return params
        return params.add(state["velocity"], alpha=-server.lr * self.momentum)
