"""DANA-Zero: a momentum for each worker, and workers are handed where all of them will have taken the parameters::

    d     = g + weight_decay * theta
    v_i   <- momentum * v_i + d                             i: the worker that pushed
    theta <- theta - lr * v_i
    a worker that reads is handed  theta - lr * momentum * sum_j v_j

    DANA-DC (``compensate`` = lambda > 0), before the above:   g <- g + lambda * g * g * (theta - s)

I. Hakimi, S. Barkai, M. Gabel, A. Schuster 2019 (arXiv 1907.11612). The equations of DANA-Zero and the ``O(P)`` bookkeeping are
from a secondary source and from memory.

Order: the gradient enters the velocity of its worker alone, that velocity steps, then the worker reads. ``s`` of DANA-DC is what
the worker was handed, a look-ahead.
Ours: the rate in the look-ahead is that of the last arrival before the version was first handed out, one vector for all who read
it; the velocity of a worker that is down or has left stays in the sum.
DANA-Slim is ``dana_slim``. Left out: NAG-ASGD, LWP.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView
from asyncsim.methods.dc_asgd import DelayCompensation
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import SGD, State, StepRule
from asyncsim.policies.step_rule import buffer, optimizers
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class WorkerVelocities(State):
    """A momentum buffer for each worker that has pushed and their sum, shape ``(P,)`` each, and the worker that stepped last."""

    velocities: dict[int, Tensor] = field(default_factory=dict)
    sum: Tensor | None = None
    last: int | None = None


@optimizers.register("worker_momentum")
class WorkerMomentum(StepRule):
    """DANA-Zero's step rule: one momentum per worker, and a look-ahead over all of them; Hakimi et al. 2019 (arXiv 1907.11612).

    The sum of the velocities is kept up to date, ``O(P)`` a step; memory is ``N`` velocities. Without ``look_ahead`` workers are
    handed ``theta`` (Multi-ASGD). Momentum 0 is plain SGD.
    """

    momentum: float = Field(default=0.9, ge=0, lt=1)
    look_ahead: bool = True

    def init(self, params: Tensor | None, num_workers: int) -> WorkerVelocities:
        return WorkerVelocities()

    def direction(self, push: Push, state: WorkerVelocities, server: ServerView) -> Tensor:
        d = self.decayed(push, server)
        if not self.momentum:
            return d
        old = state.velocities.get(push.worker)
        new = d.clone() if old is None else old.mul(self.momentum).add_(d)
        state.velocities[push.worker] = new
        state.last = push.worker
        if state.sum is None:
            state.sum = new.clone()
        elif old is None:
            state.sum.add_(new)
        else:
            state.sum.add_(new).sub_(old)
        return new

    def velocity(self, state: WorkerVelocities, server: ServerView) -> Tensor | None:
        last = None if state.last is None else state.velocities.get(state.last)
        return buffer(self.momentum, last, server)

    def view(self, params: Tensor, state: WorkerVelocities, server: ServerView, worker: int) -> Tensor:
        if not self.look_ahead or not self.momentum or state.sum is None:
            return params
        return params.add(state.sum, alpha=-server.lr * self.momentum)


@methods.register("dana")
class Dana(Method):
    """DANA-Zero, Hakimi et al. 2019: a momentum per worker, and workers read a look-ahead over all of them.

    ``look_ahead: false`` is Multi-ASGD. ``compensate`` adds DANA-DC's delay compensation with that constant strength.
    """

    look_ahead: bool = True
    compensate: float = Field(default=0.0, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        transforms = (DelayCompensation(strength=self.compensate, adaptive=False),) if self.compensate else ()
        return Bundle(transforms, worker_momentum(optimizer, self.look_ahead), ASP(), Replica())


def worker_momentum(optimizer: StepRule, look_ahead: bool) -> WorkerMomentum:
    """The step rule with the rate, decay and momentum of the scenario's ``sgd``; ``ValueError`` for another optimiser."""
    if not isinstance(optimizer, SGD):
        raise ValueError(f"DANA keeps a momentum per worker and needs the optimizer sgd, not {optimizer.kind}")
    if optimizer.nesterov:
        raise ValueError("DANA has a look-ahead of its own; leave `nesterov` out of the optimizer")
    return WorkerMomentum(
        lr=optimizer.lr, weight_decay=optimizer.weight_decay, momentum=optimizer.momentum, look_ahead=look_ahead
    )  # fmt: skip
