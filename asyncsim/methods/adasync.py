"""AdaSync: an update takes more and more gradients as the training loss falls, at first few and soon, at last many and exact::

    worker:  g at s, push, and wait for the next update
    server:  of the first K gradients   theta <- theta - lr * (1 / K) * sum of g / p          p = 1, or max(1, tau)
             K <- min(N, max(K, ceil(k * sqrt(F_0 / F))))           F_0, F: training loss at the start, and its running average

S. Dutta, J. Wang, G. Joshi 2021. The rule is recalled (medium confidence), not checked against the paper's text; the average
that stands for ``F`` is ours. ``staleness_aware`` is SA-AdaSync: every gradient is divided by its staleness.

Order: a gradient is divided by its staleness at its own arrival, its loss enters the average, and it is collected; the ``K``-th
completes the update, and the next ``K`` is set. The others go on computing with what they have read (K-async). ``K`` is not more
than the workers that have not left.
Left out: the same growth in rounds (K-sync), and where a worker gives several gradients to one update (K-batch).
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import Lockstep
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import AccumulateByLoss, StalenessAware, StepRule
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica


class GrowthSettings(Spec):
    """The fields of the two methods that collect more as the loss falls: how many pushes the first update takes, and the weight
    of a push's loss in the running average; with weight 0 the number stays."""

    k: int = Field(default=1, ge=1)
    weight: float = Field(default=0.1, ge=0, le=1)


def gather(settings: GrowthSettings, num_workers: int) -> AccumulateByLoss:
    """The transform that collects for them; raises ``ValueError`` where there are fewer workers than the first update takes."""
    if settings.k > num_workers:
        raise ValueError(f"`k` is at most the number of workers ({num_workers}), not {settings.k}")
    return AccumulateByLoss(count=settings.k, weight=settings.weight, members=True)


@methods.register("adasync")
class AdaSync(GrowthSettings, Method):
    """AdaSync, Dutta et al. 2021: an update takes ``k`` gradients at first, and more as the training loss falls.

    ``staleness_aware``: each is divided by its staleness first.
    """

    staleness_aware: bool = False

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        collect = gather(self, num_workers)
        chain = (StalenessAware(), collect) if self.staleness_aware else (collect,)
        return Bundle(chain, optimizer, Lockstep(), Replica())
