"""FLuID: the slowest worker trains a sub-model without the neurons that hardly change, as large as it can train in time::

    from round 3 on, where t_w is what the round before took worker w:
        straggler = the slowest;   q = t of the second slowest / t of the straggler
        p = 0.95 if q >= 0.9,  0.85 if q >= 0.8,  0.75 if q >= 0.7,  0.65 if q >= 0.6,  else 0.5
        the straggler is handed int(p * n) of the n neurons of every hidden layer
    left out, in this order:  invariant ones that were left out in the round before;  other invariant ones;  random ones
    invariant:  in 3/4 of the other workers all weights in and out and the bias have  |w_new - w_old| <= th * |w_old|
    server:     theta <- theta - lr * D,   for each parameter the mean of s - x over the workers that trained it

I. Wang, P. J. Nair, D. Mahajan 2023, *FLuID: Mitigating Stragglers in Federated Learning using Invariant Dropout* (NeurIPS 2023).
The rules were read in the public code (github.com/iwang05/FLuID); its tables of results were not read.

Order: all read one version and take local steps; the last to deliver completes the mean; changes are measured on the whole models
of this round, then the threshold moves; as the first worker reads again, durations are compared and the straggler is chosen.
A duration is from the read to the arrival, links included. For one with a sub-model it is taken for ``estimate * duration / p``
of the whole model (the code: 1.15 for CIFAR-10, else 1). In the round after the straggler has changed nothing is compared.
Reconstruction: that ``p`` is found anew in every comparison, also if the straggler is the same; that what makes a neuron
invariant in one round is a quantile over the workers, also for the first threshold; that candidates are taken in their order in
the layer. Differs: several ``stragglers`` (ours), each against the slowest of the others; ``|w_old| + 1e-12`` for weights at 0;
weights by data size are `before: [data_weights]`. Baselines of the code: ``dropout: random`` and ``ordered`` (as in FjORD).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import Field

from asyncsim.consistency import BSP, Progress, consistencies
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import Accumulate, StepRule, SubModels
from asyncsim.policies.sub_models import SubModelSettings
from asyncsim.registry import Spec
from asyncsim.streams import Streams

SIZES = ((0.9, 0.95), (0.8, 0.85), (0.7, 0.75), (0.6, 0.65))
SMALLEST = 0.5
WHOLE_ROUNDS = 2
"""The rounds at the start in which everybody trains the whole model."""


def size_for(q: float) -> float:
    """The share of the neurons that a straggler trains for whom the time to be met is ``q`` of its own. The table of the code: it
    never returns 1."""
    return next((share for least, share in SIZES if q >= least), SMALLEST)


@dataclass(slots=True)
class Durations:
    """Of the round that ``version`` began: when each worker read (ns), how long what has arrived took (ns), the ``shares`` of
    those with a sub-model; and whether the next comparison is left out."""

    version: int = -1
    read: dict[int, int] = field(default_factory=dict)
    taken: dict[int, int] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    skip: bool = False


class RecalibrationSettings(Spec):
    """The fields of the rule, and of the method that holds one."""

    stragglers: int = Field(default=1, ge=1)
    estimate: float = Field(default=1.0, gt=0)


class SubModelRounds(BSP):
    """Rounds as in ``bsp``, in which workers may be given a share of the model, which their pushes note."""

    notes: ClassVar[tuple[str, ...]] = ("share",)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return super().needs | Need.SUB_MODELS


@consistencies.register("recalibrated")
class Recalibrated(RecalibrationSettings, SubModelRounds):
    """Rounds as in ``bsp``, in which the slowest train a share of the model that lets them keep up with the others (FLuID)."""

    def init(self, num_workers: int, streams: Streams) -> Durations:
        return Durations()

    def share(self, worker: int, progress: Progress) -> float:
        state: Durations = progress.state
        if progress.version != state.version:
            if progress.version >= WHOLE_ROUNDS:
                self._compare(progress)
            state.version, state.read, state.taken = progress.version, {}, {}
        state.read[worker] = progress.now
        return state.shares.get(worker, 1.0)

    def arrived(self, worker: int, progress: Progress) -> None:
        state: Durations = progress.state
        progress.note("share", state.shares.get(worker, 1.0))
        if worker in state.read:
            state.taken[worker] = progress.now - state.read[worker]

    def _compare(self, progress: Progress) -> None:
        """Choose the stragglers of the round that begins, and how much they train."""
        state: Durations = progress.state
        whole = {worker: self._whole(state.taken[worker], state.shares.get(worker, 1.0))
                 for worker in progress.present() if worker in state.taken}  # fmt: skip
        slowest = sorted(whole, key=lambda worker: (-whole[worker], worker))
        if state.skip or len(slowest) <= self.stragglers:
            state.skip = False
            return
        due = whole[slowest[self.stragglers]]
        shares = {worker: size_for(due / whole[worker]) for worker in slowest[: self.stragglers]}
        state.skip = bool(state.shares) and shares.keys() != state.shares.keys()
        state.shares = shares

    def _whole(self, taken: int, share: float) -> int:
        """What the whole model would have taken (ns)."""
        return taken if share == 1.0 else round(self.estimate * taken / share)


@methods.register("fluid")
class Fluid(RecalibrationSettings, SubModelSettings, LocalMethod):
    """FLuID, Wang, Nair and Mahajan 2023: federated averaging, in which the slowest worker trains a sub-model without the neurons
    that hardly change, of a size that lets it keep up."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.stragglers >= num_workers:
            raise ValueError(f"`stragglers` is below the number of workers ({num_workers}), not {self.stragglers}")
        rule = Recalibrated(stragglers=self.stragglers, estimate=self.estimate)
        return Bundle((self.part(SubModels), Accumulate(members=True)), optimizer, rule, self.local())
