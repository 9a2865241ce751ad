"""Features Replay: DDG that keeps a stage's inputs only, and forwards them again before the backward pass::

    iteration t:  forward batch t through stages 1..K;  then, at once, stage k takes the stored input of batch c = t-K+k,
                  forwards it again with u_k(t-1), and differentiates with the error signal that stage k+1 sent in iteration t-1

Z. Huo, B. Gu, H. Huang, "Training Neural Networks Using Features Replay", NeurIPS 2018 (arXiv 1807.04511); from the authors'
public code and that of ADL.

Order: all forward passes of an iteration, then all replayed forward and backward passes, each with its update. A stage's own
parameters are fresh, its input and its error signal are stale: the gradient of no single point.
Ours: running batch-norm statistics are those of a batch's last forward pass, the replayed one.
"""

from __future__ import annotations

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.simulation.orders import ForwardLocked
from asyncsim.simulation.stage_program import Stage


@methods.register("features_replay")
class FeaturesReplay(PipelineMethod):
    """Features Replay, Huo et al. 2018 (arXiv 1807.04511): DDG that keeps inputs only and forwards them again with current
    parameters before the backward pass."""

    def stage(self, stages: int) -> Stage:
        return Stage(order=ForwardLocked(), backward="replayed")
