"""PipeDream: one forward, one backward in turn; a backward pass uses the stashed parameters of its forward pass::

    stage k of K:  K-k forwards, then F, B, F, B, ...; an update after every backward
    u_k(b) = u_k(b-1) - lr * grad_k f_b(u_1(b-1-(K-1)), ..., u_j(b-1-(K-j)), ..., u_K(b-1))       staleness K-k
    vertical sync: all stages use the version that the first one read for the batch               staleness K-1

D. Narayanan et al., "PipeDream", SOSP 2019 (arXiv 1806.03377); from the public code and secondary sources.

Order: the update of a stage follows its backward pass at once, and the next forward pass reads it.
Differs from the paper: groups replicate the whole pipeline, single stages cannot be replicated, and there is no partitioner but
``stages.split``. Running batch-norm statistics are not stashed, as in the public code.
"""

from __future__ import annotations

from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import OneF1BMethod
from asyncsim.simulation.orders import OneForwardOneBackward
from asyncsim.simulation.stage_program import Stage


@methods.register("pipedream")
class PipeDream(OneF1BMethod):
    """PipeDream, Narayanan et al. 2019 (SOSP): stage k of K computes on parameters ``K - k`` updates old, stashed for the
    backward pass. ``vertical_sync``: all stages use the version that the first one read, ``K - 1`` updates old."""

    vertical_sync: bool = False

    def stage(self, stages: int) -> Stage:
        versions = "first" if self.vertical_sync else "latest"
        return Stage(order=OneForwardOneBackward(), backward=self.backward_weights, versions=versions)
