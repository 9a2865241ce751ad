"""Decoupled parallel backpropagation with delayed gradients: the forward pass is locked, backward passes go on at once::

    iteration t:  forward batch t through stages 1..K;  then, at once, stage k backwards batch c = t-K+k  (none if c < 1)
    u_k(t) = u_k(t-1) - lr * grad_k f_c(u_1(c-1), ..., u_K(c-1))            staleness of stage k: K-k

Z. Huo, B. Gu, Q. Yang, H. Huang, "Decoupled Parallel Backpropagation with Convergence Guarantee", ICML 2018 (arXiv 1804.10574);
from the authors' public code and secondary sources.

Order: all forward passes of an iteration, then all backward passes, each with its update.
Differs from the code: it stashes no parameters (``backward_weights: current``), and its processes run free through queues, where
here an iteration is a lock-step; batches and versions meet in the same way. ``beta``, the shrinking of error signals, is FDG's.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod, Weights
from asyncsim.simulation.orders import ForwardLocked
from asyncsim.simulation.stage_program import Stage


@methods.register("ddg")
class Ddg(PipelineMethod):
    """Decoupled parallel backpropagation with delayed gradients, Huo et al. 2018 (arXiv 1804.10574), with a locked forward."""

    beta: float = Field(default=1.0, ge=0, le=1)
    backward_weights: Weights = "stashed"

    def stage(self, stages: int) -> Stage:
        return Stage(order=ForwardLocked(), backward=self.backward_weights, shrink=self.beta)
