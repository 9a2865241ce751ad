"""Nesterov's method for asynchronous pipelines: PipeDream with a stash, where only the step rule changes::

    v     <- momentum * v + (1 - momentum) * d                              d = g + weight_decay * theta
    theta <- theta - lr * v
    a worker is handed  theta - lr * momentum * v

For a constant ``lr`` this is the paper's ``w_{t+1} = w_t + d_t - lr (1 - gamma) grad f(w_{t-tau} + d_{t-tau})`` with its
``d_t = gamma (w_t - w_{t-1})`` and ``gamma`` the momentum.

T. Ajanthan et al., "Nesterov Method for Asynchronous Pipeline Parallel Optimization", ICML 2025 (arXiv 2505.01099); from a
secondary source and the public code AsyncPP.

Order: one forward, one backward in turn; the forward pass is handed the look-ahead, the backward pass uses the same (stashed).
Differs from the paper: where a schedule moves, the velocity is scaled by the new rate, as in PyTorch. Their theorem has
``gamma_t = (t - 2) / t`` and bounded gradients, here it is constant. Their experiments use PyTorch's NAdam: with
``optimizer: nadam`` the method is PipeDream with that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.messages import Push, ServerView
from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import OneF1BMethod
from asyncsim.policies import HeavyBall, NAdam, StepRule, Velocity, heavy_ball
from asyncsim.policies.step_rule import optimizers

if TYPE_CHECKING:
    from torch import Tensor


@optimizers.register("look_ahead_momentum")
class LookAheadMomentum(HeavyBall):
    """Nesterov's method for stale gradients: workers are handed a look-ahead, and the gradient is discounted; Ajanthan et al.
    2025 (arXiv 2505.01099).

    Without ``discount`` the factor ``1 - momentum`` is left out. Momentum 0 is SGD.
    """

    discount: bool = True

    def momentum_step(self, d: Tensor, push: Push, state: Velocity, server: ServerView) -> Tensor:
        if self.discount:
            d.mul_(1.0 - self.momentum)
        return state.accumulate(self.momentum, d)

    def view(self, params: Tensor, state: Velocity, server: ServerView, worker: int) -> Tensor:
        if not self.momentum or state.velocity is None:
            return params
        return params.add(state.velocity, alpha=-server.lr * self.momentum)


@methods.register("nesterov_pipeline")
class NesterovPipeline(OneF1BMethod):
    """Nesterov's method for asynchronous pipelines, Ajanthan et al. 2025 (arXiv 2505.01099): PipeDream whose forward passes read
    a look-ahead, with the gradient weighted by ``1 - momentum``. The momentum is the optimizer's (``sgd``). With the optimizer
    ``nadam`` it is PipeDream with that, as in their experiments."""

    def step(self, optimizer: StepRule) -> StepRule:
        if isinstance(optimizer, NAdam):
            return optimizer
        return LookAheadMomentum(**heavy_ball(optimizer, "the Nesterov pipeline"))
