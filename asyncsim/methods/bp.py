"""Plain backpropagation over K machines: the locks that the other methods of pipelines remove::

    stage k:  forward as soon as the activation of stage k-1 is there, backward as soon as the error signal of stage k+1 is there
    u_k(b) = u_k(b-1) - lr * grad_k f_b(u_1(b-1), ..., u_K(b-1))            staleness 0, u_k the parameters of stage k

Source: folklore, the baseline of every pipeline.

Order: a batch goes up through all stages and down again before the next begins, so all stages but one wait.
Deviations: none.
"""

from __future__ import annotations

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.simulation.orders import Flush
from asyncsim.simulation.stage_program import Stage


@methods.register("bp")
class Bp(PipelineMethod):
    """Plain backpropagation over K machines: one batch at a time goes up and down, and all but one stage wait."""

    def stage(self, stages: int) -> Stage:
        return Stage(order=Flush())
