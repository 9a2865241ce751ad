"""PipeOptim: forward passes on parameters that the optimizer's own update predicts, so that no stash is needed::

    w_hat = theta - lr * s * u           s: updates until the gradient arrives, N - r - 1 at stage r = 0..N-1
    SGD     u = v, the momentum buffer
    Adam, AdamW   u = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps), without decay

PipeOptim, 2023 (arXiv 2312.00839); read in the README of the public code guanleics/PipeOptim, whose code has ``N - r`` for ``s``
(``horizon: spectrain_v2``). That XPipe (2019, arXiv 1911.04610) predicts from Adam too is known; its ``s``, and how the first
micro-batch of a batch predicts for the others, are not known well enough, so XPipe is left out.

Order: one forward, one backward in turn. The forward pass alone is predicted; the backward pass takes the parameters of its own
time, which the prediction aimed at (``current``, on the forward pass's activations: our reading of "forward only").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.messages import ServerView
from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import OneF1BMethod, Weights
from asyncsim.policies import Adam, Moments, StepRule, WeightPrediction, heavy_ball
from asyncsim.policies.prediction import Horizon, Predicting
from asyncsim.policies.step_rule import optimizers

if TYPE_CHECKING:
    from torch import Tensor


@optimizers.register("adam_prediction")
class AdamPrediction(Predicting, Adam):
    """Adam or AdamW whose workers are handed the parameters as ``s`` updates like the last one would leave them; PipeOptim, 2023
    (arXiv 2312.00839). ``horizon`` as in ``weight_prediction``; a late backward pass looks ahead with ``spectrain``
    only."""

    def predicted(self, params: Tensor, state: Moments, server: ServerView, updates: float) -> Tensor:
        if state.first is None or state.second is None:
            return params
        root = state.second.div(1.0 - self.beta2**state.steps).sqrt_().add_(self.eps)
        return params.addcdiv(state.first, root, value=-updates * server.lr / (1.0 - self.beta1**state.steps))


@methods.register("pipeoptim")
class PipeOptim(OneF1BMethod):
    """PipeOptim, 2023 (arXiv 2312.00839): one forward, one backward, with forward passes on predicted parameters, for
    the optimizers ``sgd`` and ``adam``. ``horizon`` as in ``weight_prediction``."""

    horizon: Horizon = "1f1b"
    backward_weights: Weights = "current"

    def step(self, optimizer: StepRule) -> StepRule:
        if type(optimizer) is Adam:
            return AdamPrediction(**{name: getattr(optimizer, name) for name in Adam.model_fields}, horizon=self.horizon)
        return WeightPrediction(**heavy_ball(optimizer, "PipeOptim, for which there is also adam,"), horizon=self.horizon)
