"""Delay-compensated ASGD: correct a stale gradient with a diagonal estimate of the Hessian::

    DC-ASGD-c (adaptive: false)   g <- g + strength * g * g * (theta - s)
    DC-ASGD-a                     m_i <- decay * m_i + (1 - decay) * g * g                            i: the worker that pushed
                                  g   <- g + strength / sqrt(m_i + eps) * g * g * (theta - s)
    then the optimiser, as in ``asgd``

S. Zheng et al., ICML 2017. Both updates and the place of ``eps`` (inside the root) were read in the updater of Microsoft's
Multiverso; the constants are from a secondary source.

Order: the mean square takes the plain gradient first, at every arrival, also at staleness 0; then the gradient is corrected;
weight decay is added after it, and is not compensated.
Differs from the code: it keeps a backup taken right after the worker's last update in place of ``s``, which is the same vector
where reading takes no time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


class CompensationSettings(Spec):
    """The fields of the transform, and of the method that holds one."""

    strength: float = Field(default=2.0, ge=0)
    adaptive: bool = True
    decay: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-7, gt=0)


@dataclass(slots=True)
class MeanSquares(State):
    """The running mean square of each worker's gradients, shape ``(P,)``, by worker."""

    square: dict[int, Tensor] = field(default_factory=dict)


@policies.register("delay_compensation")
class DelayCompensation(CompensationSettings, Transform):
    """``g <- g + lambda * g * g * (theta - s)``, elementwise; Zheng et al., ICML 2017.

    ``adaptive``: ``lambda = strength / sqrt(m + eps)`` with the worker's mean square ``m`` (DC-ASGD-a), otherwise ``strength``.
    ``s`` is what the worker really read.
    """

    needs: ClassVar[Need] = Need.VALUES

    def init(self, params: Tensor | None, num_workers: int) -> MeanSquares:
        return MeanSquares()

    def update(self, push: Push, state: MeanSquares, server: ServerView) -> Push | Verdict:
        gradient = push.gradient
        square = gradient * gradient
        if self.adaptive:
            before = state.square.get(push.worker)
            mean = square * (1.0 - self.decay) if before is None else before * self.decay + square * (1.0 - self.decay)
            state.square[push.worker] = mean
        handed = push.snapshot.params
        if handed is None or handed is server.params or self.strength == 0.0:
            return push
        correction = square.mul_(server.params - handed).mul_(self.strength)
        if self.adaptive:
            correction.div_((mean + self.eps).sqrt_())
        push.replaced = correction.add_(gradient)
        return push


@methods.register("dc_asgd")
class DcAsgd(CompensationSettings, Method):
    """Delay-compensated ASGD, Zheng et al. 2017; ``adaptive: false`` is DC-ASGD-c."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(DelayCompensation),), optimizer, ASP(), Replica())
