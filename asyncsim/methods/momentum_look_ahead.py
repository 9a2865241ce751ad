"""Momentum look-ahead (MLA): asynchronous local SGD whose workers start where the server's momentum is about to lead::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x

    keep: parameters   theta <- theta - lr * momentum * m - lr * D;   m <- momentum * m + (1 - momentum) * D
                       a worker that reads is handed  s = theta - lr * momentum * m
    keep: look_ahead   m <- momentum * m + (1 - momentum) * D;   phi <- phi - lr * (momentum * m + D);   handed out is  s = phi

Both forms hand out the same for a constant ``lr``; the server keeps, and evaluates, ``theta`` in one and ``phi`` in the other.

T. Ajanthan et al., MCDC at ICLR 2025, on asynchronous low-communication training. The equations are from two transcriptions that
agree and from a third-party code (secondary sources), which has ``lr`` 0.7 and ``momentum`` 0.9.

Order: the step uses the momentum as the arrival finds it (``theta``) or as it leaves it (``phi``); then the worker reads.
One push moves the parameters by ``lr * (1 + momentum) * D`` in the end: compare methods at equal total weight. It is not the rule
of ``nesterov_pipeline``, which discounts the gradient by ``1 - momentum``.
Differs from the paper: the momentum is constant (there it may vary), and workers take SGD steps (there: AdamW). Weight decay is
added to ``D`` at the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import HeavyBall, StepRule, Velocity, heavy_ball
from asyncsim.policies.step_rule import buffer, optimizers
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor


class KeepSettings(Spec):
    """The field of the step rule, and of the method that holds one: what the server keeps as its parameters."""

    keep: Literal["parameters", "look_ahead"] = "parameters"


@optimizers.register("averaged_look_ahead")
class AveragedLookAhead(KeepSettings, HeavyBall):
    """A running mean of pushes as the momentum, which steps beside each push, and a look-ahead by it for those who read: MLA's
    step rule, Ajanthan et al. 2025. Momentum 0 is plain SGD.
    """

    def momentum_step(self, d: Tensor, push: Push, state: Velocity, server: ServerView) -> Tensor:
        weighted = d.mul(1.0 - self.momentum)
        if self.keep == "look_ahead":
            return d.add(state.accumulate(self.momentum, weighted), alpha=self.momentum)
        step = d if state.velocity is None else d.add(state.velocity, alpha=self.momentum)
        state.accumulate(self.momentum, weighted)
        return step

    def velocity(self, state: Velocity, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)

    def view(self, params: Tensor, state: Velocity, server: ServerView, worker: int) -> Tensor:
        if self.keep == "look_ahead" or state.velocity is None:
            return params
        return params.add(state.velocity, alpha=-server.lr * self.momentum)


@methods.register("momentum_look_ahead")
class MomentumLookAhead(KeepSettings, LocalMethod):
    """MLA, Ajanthan et al. 2025: workers take local steps from where the server's momentum, a running mean of what they push, is
    about to lead. The momentum is the optimizer's (``sgd``)."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        step = self.part(AveragedLookAhead, **heavy_ball(optimizer, "momentum look-ahead"))
        return Bundle((), step, ASP(), self.local())
