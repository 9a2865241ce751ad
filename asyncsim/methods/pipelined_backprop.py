"""Fine-grained pipelined backpropagation: FDG's ticks with an update in each, mitigated by the step rule alone::

    stage k of K works on parameters D = 2(K - k) updates old, D = 0 at the last
    v     <- momentum * v + d
    SC    theta <- theta - lr * (a * v + b * d)      a = momentum^D,  b = (1 - momentum^D) / (1 - momentum);  without: 1 and 0
    LWPv  a pass reads  theta - D * lr * v           LWPw  theta + D * (theta_t - theta_(t-1))

Kosson et al., MLSys 2021 (arXiv 2003.11666). The equations are recalled (high confidence), and so is that SC together with LWP is
what they recommend.

Order: in every tick forward, backward, update, so that the staleness is the lag ``D``; the forward pass is handed the prediction.
Ours: a ``stashed`` backward pass uses the forward pass's prediction; ``current`` uses the present parameters, without prediction.
During the first ticks SC's ``D`` is the staleness that a push has, less than the lag; LWP's is the lag from the first update on.
"""

from __future__ import annotations

from typing import Literal

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod, Weights
from asyncsim.methods.spike_compensation import SpikeCompensation
from asyncsim.policies import StepRule, WeightPrediction, heavy_ball
from asyncsim.policies.prediction import Horizon
from asyncsim.simulation.orders import Ticks
from asyncsim.simulation.stage_program import Stage


@methods.register("pipelined_backprop")
class PipelinedBackprop(PipelineMethod):
    """Pipelined backpropagation, Kosson et al. 2021 (arXiv 2003.11666): all stages at once, with momentum that makes up for it.

    - ``compensate``: spike compensation; ``predict``: linear weight prediction by ``velocity`` or by ``weights``.
    - The momentum is the optimizer's (``sgd``).
    """

    compensate: bool = True
    predict: Literal["none", "velocity", "weights"] = "velocity"
    backward_weights: Weights = "stashed"

    def stage(self, stages: int) -> Stage:
        return Stage(order=Ticks(update_first=False), backward=self.backward_weights)

    def step(self, optimizer: StepRule) -> StepRule:
        settings = heavy_ball(optimizer, "pipelined backpropagation")
        rule = SpikeCompensation if self.compensate else WeightPrediction
        horizon: Horizon = 0.0 if self.predict == "none" else "ticks"
        return rule(**settings, horizon=horizon, form="weights" if self.predict == "weights" else "velocity")
