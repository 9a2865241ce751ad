"""Delayed Nesterov: the momentum of asynchronous local SGD is refreshed only once in ``period`` pushes::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x
    server:  b <- b + D,  and for the pushes counted t = 1, 2, ...
        t mod period = 0:   m     <- momentum * m + b / period;    b <- 0
                            theta <- theta - lr * ((1 - c * period + c) * momentum * m + D / period)
        else:               theta <- theta - lr * (c * momentum * m + D / period)

B. Liu et al., "Asynchronous Local-SGD Training for Language Modeling", 2024 (arXiv 2401.09135). The rule was read in the public
code of HALoS, which has it with ``c``; that the paper has it too is from secondary notes.

Order: the push enters ``b``; at the end of a period ``m`` is refreshed before the step; the worker reads at once. Over a period
the displacement is ``lr * (mean of D + momentum * m)`` for any ``c``, where ``m`` is steady.
Differs from the paper: workers take SGD steps (there: AdamW). Weight decay is added to ``D`` at the server. Where the server is
given a schedule, ``m`` is scaled by the new rate. The default ``period`` is ours.
The grace window is ``before: [{kind: accumulate, within: ...}]``; DyLU is the program ``dylu`` (`async_local_sgd`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import StepRule, Velocity, heavy_ball
from asyncsim.policies.step_rule import buffer, optimizers
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor


class PeriodSettings(Spec):
    """The fields of the step rule, and of the method that holds one."""

    period: int = Field(default=4, ge=1)
    c: float = Field(default=0.0, ge=0, le=1)

    @model_validator(mode="after")
    def _c_shares_out_one_momentum(self) -> PeriodSettings:
        if self.c * self.period > 1.0:
            raise ValueError(f"c is at most 1 / period (1 / {self.period}), not {self.c:g}")
        return self


@dataclass(slots=True)
class DelayedVelocity(Velocity):
    """The momentum, the sum of the pushes of the period so far, shape ``(P,)``, and how many those are."""

    sum: Tensor | None = None
    pushes: int = 0


@optimizers.register("delayed_nesterov")
class DelayedNesterovStep(PeriodSettings, StepRule):
    """Nesterov's SGD whose momentum takes the mean of every ``period`` pushes, each of which steps by ``1 / period`` at once;
    Liu et al. 2024 (arXiv 2401.09135). ``c`` spreads the momentum's step over the period. A period of 1 is Nesterov's SGD.
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)

    def init(self, params: Tensor | None, num_workers: int) -> DelayedVelocity:
        return DelayedVelocity()

    def direction(self, push: Push, state: DelayedVelocity, server: ServerView) -> Tensor:
        d = self.decayed(push, server)
        step = d / self.period if self.period > 1 else d
        if not self.momentum:
            return step
        state.sum = d.clone() if state.sum is None else state.sum.add_(d)
        state.pushes += 1
        share = self.c
        if state.pushes == self.period:
            state.accumulate(self.momentum, state.sum.div_(self.period))
            state.sum, state.pushes = None, 0
            share = 1.0 - self.c * self.period + self.c
        if state.velocity is None or not share:
            return step
        return step.add(state.velocity, alpha=share * self.momentum)

    def velocity(self, state: DelayedVelocity, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)


@methods.register("delayed_nesterov")
class DelayedNesterov(PeriodSettings, LocalMethod):
    """Asynchronous local SGD with the delayed Nesterov step, Liu et al. 2024 (arXiv 2401.09135): every push steps by ``1 /
    period`` at once, and the momentum, which is the optimizer's (``sgd``), is refreshed once a period."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        step = self.part(DelayedNesterovStep, **heavy_ball(optimizer, "delayed Nesterov"))
        return Bundle((), step, ASP(), self.local())
