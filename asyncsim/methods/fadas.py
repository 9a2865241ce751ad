"""FADAS: buffered asynchronous federated training with an adaptive server, whose rate shrinks when a group holds a late push::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x
    server:  after every ``buffer`` pushes, with their mean D and their largest staleness tau_max:
        m     <- momentum * m + (1 - momentum) * D
        v     <- beta2 * v + (1 - beta2) * D * D;     V <- max(V, v)                 all 0 at first, no correction for that
        rate  =  lr where tau_max <= after,  else min(lr, 1 / tau_max)
        theta <- theta - rate * m / (sqrt(V) + eps)

Y. Wang, S. Wang, S. Lu, J. Chen, "FADAS: Towards Federated Adaptive Asynchronous Optimization", ICML 2024. The rule is from a
secondary source; it is FedAMSGrad where no push is late.

Order: staleness is that of the arrival, which within a group is that of the update; the mean enters both moments, ``V`` takes the
new ``v``, then the step is made and its rate cut.
Differs from the paper: weight decay is added to ``D`` at the server. The defaults of ``buffer``, ``after``, ``beta2`` and ``eps``
are ours; ``lr`` and ``momentum`` are the optimizer's (``sgd``), and its default rate of 0.1 is large for steps of this kind.
Every worker takes part, unless ``consistency: sampled`` draws them. Left out: what is buffered at the end is not applied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import Moments, StepRule, Transform, heavy_ball
from asyncsim.policies.accumulate import Group
from asyncsim.policies.mean import mean_push
from asyncsim.policies.step_rule import buffer as zeros
from asyncsim.policies.step_rule import is_one, optimizers
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor


class GroupSettings(Spec):
    """The fields of the transform, and of the method that holds one. ``after`` None is the number of workers."""

    buffer: int = Field(default=4, ge=1)
    after: int | None = Field(default=None, ge=0)


@policies.register("late_groups")
class LateGroups(GroupSettings, Transform):
    """The mean of ``buffer`` pushes, whose rate is at most ``1 / tau_max`` if the largest staleness among them is above
    ``after`` (versions): FADAS, Wang et al. 2024."""

    needs: ClassVar[Need] = Need.BUFFERS | Need.MEANS

    def init(self, params: Tensor | None, num_workers: int) -> Group:
        return Group()

    def update(self, push: Push, state: Group, server: ServerView) -> Push | Verdict:
        state.buffer.append(push)
        if len(state.buffer) < self.buffer:
            return Verdict.BUFFERED
        pushes, state.buffer = state.buffer, []
        latest = max(push.staleness for push in pushes)
        mean = mean_push(pushes) if len(pushes) > 1 else push
        if latest > (server.num_workers if self.after is None else self.after) and server.lr * latest > 1.0:
            mean.penalise(server.lr * latest)
        return mean


@dataclass(slots=True)
class LargestMoments(Moments):
    """Adam's running means, and the largest mean square so far of every entry, shape ``(P,)``; None before the first step."""

    largest: Tensor | None = None


@optimizers.register("fed_amsgrad")
class FedAMSGrad(StepRule):
    """``m / (sqrt(V) + eps)`` with running means ``m`` of pushes and ``v`` of their squares from 0, uncorrected, and ``V`` the
    largest ``v`` so far; ``momentum`` is that of ``m``. As with Adam, a penalty divides the finished step, weight decay included.
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.99, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)

    def init(self, params: Tensor | None, num_workers: int) -> LargestMoments:
        return LargestMoments()

    def direction(self, push: Push, state: LargestMoments, server: ServerView) -> Tensor:
        d = push.gradient
        if self.weight_decay:
            d = d.add(server.params, alpha=self.weight_decay)
        first, second = state.accumulate(self.momentum, self.beta2, d)
        state.largest = second.clone() if state.largest is None else second.maximum(state.largest)
        step = first / state.largest.sqrt().add_(self.eps)
        return step if is_one(push.penalty) else step.div_(push.penalty)

    def velocity(self, state: LargestMoments, server: ServerView) -> Tensor | None:
        return zeros(self.momentum, state.first, server)


@methods.register("fadas")
class Fadas(GroupSettings, LocalMethod):
    """FADAS, Wang et al. 2024: groups of ``buffer`` model differences, an AMSGrad server, and a smaller rate for a group that
    holds a push staler than ``after``. Rate and first momentum are the optimizer's (``sgd``)."""

    beta2: float = Field(default=0.99, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        step = self.part(FedAMSGrad, **heavy_ball(optimizer, "FADAS"))
        return Bundle((self.part(LateGroups),), step, ASP(), self.local())
