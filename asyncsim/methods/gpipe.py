"""GPipe: a batch is cut into ``m`` micro-batches that fill the pipeline, which is emptied before the update: synchronous SGD::

    forward micro-batches 1..m, then backward 1..m          interleaved: K - k forwards, then one forward, one backward in turn
    u_k(b) = u_k(b-1) - lr * mean over the micro-batches of grad_k f(u_1(b-1), ..., u_K(b-1))              staleness 0

Y. Huang et al., "GPipe", NeurIPS 2019. ``interleaved`` is PipeDream-Flush: D. Narayanan et al., "Memory-Efficient
Pipeline-Parallel DNN Training", ICML 2021.

Order: the gradients of the micro-batches are collected, their mean is one update, and only then does the next batch begin.
Differs from the papers: activations are kept; with ``recompute`` they are computed again, as in GPipe. A micro-batch takes
``1/m`` of a compute time that is drawn for it alone. With batch norm a micro-batch has statistics of its own.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.simulation.orders import Flush
from asyncsim.simulation.stage_program import Stage


@methods.register("gpipe")
class GPipe(PipelineMethod):
    """GPipe, Huang et al. 2019: ``micro_batches`` fill the pipeline, which is emptied before the update: synchronous SGD.

    ``interleaved``: PipeDream-Flush, the same with fewer activations kept. ``recompute``: a backward pass repeats its forward
    pass first, which takes its time.
    """

    micro_batches: int = Field(default=4, ge=1)
    interleaved: bool = False
    recompute: bool = False

    def stage(self, stages: int) -> Stage:
        order = Flush(interleaved=self.interleaved)
        return Stage(order=order, micro_batches=self.micro_batches, recompute=self.recompute)
