"""Sub-models of fixed sizes, without the neurons whose weights change least::

    from round 3 on, worker w is handed int(shares[w] * n) of the n neurons of every hidden layer
    left out, in this order:  invariant ones that were left out in the round before;  other invariant ones;  random ones
    invariant:  in 3/4 of the workers with the whole model all weights in and out and the bias have |w_new - w_old| <= th |w_old|
    server:     theta <- theta - lr * D,   for each parameter the mean of s - x over the workers that trained it

I. Wang 2022, undergraduate thesis (University of British Columbia, arXiv 2208.14808), which leaves neurons out by the magnitudes
of their weights' updates. It is the invariant dropout of FLuID, `fluid`, with sizes that are given instead of found; its rules
were read in the code of that (github.com/iwang05/FLuID), not in the thesis.

Order, thresholds and what is reconstruction: as in `fluid`. Timing depends on nothing but the sizes. ``dropout: ordered`` is the
rule of FjORD's sub-models, without its distillation; ``dropout: random`` draws them anew in every round.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from asyncsim.cluster.fields import WorkerIndex
from asyncsim.consistency import Progress, consistencies
from asyncsim.methods.fluid import WHOLE_ROUNDS, SubModelRounds
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import Accumulate, StepRule, SubModels
from asyncsim.policies.sub_models import SubModelSettings
from asyncsim.registry import Spec

Share = Annotated[float, Field(gt=0, le=1)]


class ShareSettings(Spec):
    """The field of the rule, and of the method that holds one."""

    shares: dict[WorkerIndex, Share] = Field(min_length=1)


@consistencies.register("fixed_shares")
class FixedShares(ShareSettings, SubModelRounds):
    """Rounds as in ``bsp``, in which some workers train a share of the model from round 3 on: ``shares``, by worker."""

    def share(self, worker: int, progress: Progress) -> float:
        return self.shares.get(worker, 1.0) if progress.version >= WHOLE_ROUNDS else 1.0

    def arrived(self, worker: int, progress: Progress) -> None:
        progress.note("share", self.share(worker, progress))


@methods.register("weight_update_magnitudes")
class WeightUpdateMagnitudes(ShareSettings, SubModelSettings, LocalMethod):
    """Invariant dropout, Wang 2022: federated averaging, in which some workers train sub-models of fixed sizes without the
    neurons whose weights change least."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        beyond = [worker for worker in self.shares if worker >= num_workers]
        if beyond:
            raise ValueError(f"`shares` names worker {beyond[0]}; there are 0 to {num_workers - 1}")
        rule = FixedShares(shares=self.shares)
        return Bundle((self.part(SubModels), Accumulate(members=True)), optimizer, rule, self.local())
