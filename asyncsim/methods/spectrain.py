"""SpecTrain: PipeDream's order on predicted parameters, where the momentum will have taken them when the gradient is applied::

    v <- momentum * v + d           w <- w - lr * v           a pass computes on  w - h * lr * v
    stage r = 0..N-1 of N:   h = floor(r/2) + N - r - 1  for the forward pass,   floor(r/2)  for the backward pass

C.-C. Chen et al. 2018, "Efficient and Robust Parallel DNN Training through Model Parallelism on Multi-GPU Platform" (arXiv
1809.02839); the horizons are those of a public re-implementation. Other horizons, some of other papers, are to choose from: the
table of `asyncsim.policies.WeightPrediction`, the step rule that predicts.

Order: one forward, one backward in turn. The forward pass is handed its prediction when it begins, the backward pass one of its
own when that begins (no stash); with the other horizons both passes use the forward pass's. Then the gradient enters ``v`` and
steps.
Differs from the paper: the rate in the prediction is that of the last arrival.
"""

from __future__ import annotations

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.policies import StepRule, WeightPrediction, heavy_ball
from asyncsim.policies.prediction import Horizon
from asyncsim.simulation.orders import OneForwardOneBackward
from asyncsim.simulation.stage_program import Stage


@methods.register("spectrain")
class SpecTrain(PipelineMethod):
    """SpecTrain, Chen et al. 2018 (arXiv 1809.02839): one forward, one backward on parameters that momentum predicts.

    ``horizon`` as in the step rule ``weight_prediction``: ``spectrain`` predicts for both passes, the others once for both. The
    momentum is the optimizer's (``sgd``).
    """

    horizon: Horizon = "spectrain"

    def stage(self, stages: int) -> Stage:
        return Stage(order=OneForwardOneBackward(), backward="current" if self.horizon == "spectrain" else "stashed")

    def step(self, optimizer: StepRule) -> StepRule:
        settings = heavy_ball(optimizer, "the prediction")
        return WeightPrediction(**settings, horizon=self.horizon)
