"""Overlap local SGD: models of their own, pulled towards an anchor whose average travels while workers take local steps::

    round r, worker i:  local_steps times:  x_i <- x_i - local_lr * factor * g(x_i)
                        wait for the average of round r - 1, which makes the anchor z
                        x_i <- x_i - pull * (x_i - z),  and launch the average of round r
    anchor:             v <- momentum * v + mean of the x_i - z;   z <- z + lr * v          lr = 1

J. Wang et al. 2020. The rule is recalled (medium confidence), and so is the default pull; the paper was not at hand.

Order: local steps, wait, pull, launch. In the first round the anchor is the initial model, which pulls, too. ``factor`` is the
schedule's as the round begins; the anchor's optimiser is the scenario's, without a schedule. ``local_momentum`` is heavy ball,
whose velocity goes on from round to round and is not pulled.
As built: a worker sends its model before the pull, and the pull of a round is made as its next round begins. No push of a round
meets another anchor than the one that its worker was pulled to, so ``mixing`` with rate ``1 - pull`` makes ``z - x_i`` of it.
Ours: a worker that goes down loses its model and velocity, and begins at the anchor that it then reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.messages import Gradient
from asyncsim.methods.fedasync import Mixing
from asyncsim.methods.local_steps import LocalMethod, OwnModel
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import Accumulate, StepRule
from asyncsim.registry import Spec
from asyncsim.simulation.programs import LocalSGD, programs

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Snapshot
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class PulledSteps(OwnModel):
    """A kernel: pull the worker's model towards what it has read, and take ``steps`` steps with it. The result is ``s - x``,
    shape ``(P,)``."""

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int, carry: Tensor | None) -> Gradient:
        from asyncsim.engine.kernels import gradient

        own, velocity = self.held(params, carry)
        local, loss, statistics = own - (own - params) * self.pull, params.new_zeros(()), None
        for index in range(step * self.steps, (step + 1) * self.steps):
            result = gradient(task, streams, local, worker, index)
            velocity = velocity * self.momentum + result.gradient
            local = local.add(velocity, alpha=-self.lr)
            loss, statistics = loss + result.loss, result.statistics
        return Gradient(params - local, loss / self.steps, statistics, self.left(local, velocity))


class Pull(Spec):
    """``pull``: the share of the way to the anchor that a worker's model is pulled in a round."""

    pull: float = Field(default=0.6, ge=0, lt=1)


@programs.register("pulled_sgd")
class PulledSGD(Pull, LocalSGD):
    """``steps`` SGD steps with a model of the worker's own, which is first pulled towards the parameters that it reads (Wang
    et al. 2020). Pushed is the difference between those and the model."""

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return super().needs | Need.WORKER_STATE

    def kernel(self, snapshot: Snapshot) -> Any:
        return PulledSteps(self.pull, self.steps, self.lr * snapshot.lr_factor, self.momentum)


@methods.register("overlap_local_sgd")
class OverlapLocalSgd(Pull, LocalMethod):
    """Overlap local SGD, Wang et al. 2020: models of their own, pulled towards an anchor whose average travels while they take
    local steps. The optimizer is the anchor's: ``{kind: sgd, lr: 1}``, with the anchor's momentum."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        local = {"steps": self.local_steps, "lr": self.local_lr, "momentum": self.local_momentum}
        transforms = (Mixing(rate=1 - self.pull, power=0), Accumulate(members=True))
        return Bundle(transforms, optimizer, BSP(lag=1), self.part(PulledSGD, **local, overlap=True))
