"""PipeDream-2BW: micro-batches make an update, two versions are kept, and every gradient is one update old::

    micro-batch i = 1, 2, ... uses version  max(floor((i-1) / m) - 1, 0)  in both passes;  m of them make an update
    u(t+1) = u(t) - lr * grad f(u(t-1))                                     staleness 1 at every stage, m = micro_batches

D. Narayanan et al., "Memory-Efficient Pipeline-Parallel DNN Training", ICML 2021.

Order: one forward, one backward in turn; the ``m``-th gradient of a stage completes its update, and the pipeline is never
emptied. ``m`` is the number of stages at least (and by default).
Ours: the mean of the micro-batches is applied; a micro-batch takes ``1/m`` of a compute time that is drawn for it alone.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.simulation.orders import OneForwardOneBackward
from asyncsim.simulation.stage_program import Stage


@methods.register("pipedream_2bw")
class PipeDream2bw(PipelineMethod):
    """PipeDream-2BW, Narayanan et al. 2021 (ICML): ``micro_batches`` (as many as stages at least, and by default) make an update,
    and two versions are kept: every gradient is one update old, whatever the depth."""

    micro_batches: int | None = Field(default=None, ge=1)

    def stage(self, stages: int) -> Stage:
        count = self.micro_batches or stages
        if count < stages:
            raise ValueError(f"2BW needs as many micro-batches as stages at least ({stages}), not {count}")
        return Stage(order=OneForwardOneBackward(), versions="double", micro_batches=count)
