"""DANA-Slim: every worker keeps a momentum and pushes a look-ahead of it, and the server knows of none of that::

    worker i that read s:   d   = g + weight_decay * s
                            v_i <- momentum * v_i + d          zero at first
                            push  u = d + momentum * v_i
    server:                 Theta <- Theta - lr * u;   hands out Theta as it is

For a constant rate and without weight decay ``Theta`` is what DANA-Zero hands out, ``theta - lr * momentum * sum_j v_j``.

I. Hakimi, S. Barkai, M. Gabel, A. Schuster 2019 (arXiv 1907.11612). The equations are from a secondary source and from memory.

Order: the worker's velocity takes the new gradient, then ``u`` is made of both and sent. The velocity stays with its worker from
round to round; a worker that goes down loses it, and one that stops leaves nothing behind (with ``dana`` the server keeps it).
Weight decay is the worker's, of the point that it read. Where a schedule changes the rate, ``Theta`` does not jump, and so leaves
the sequence of DANA-Zero, whose look-ahead does. Ours: evaluation is at ``Theta``, a look-ahead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.dana import worker_momentum
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import SGD, StepRule, Transform, Velocity
from asyncsim.policies.momentum import decayed_at_worker
from asyncsim.policies.transform import policies
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("worker_nesterov")
class WorkerNesterov(Transform):
    """``v <- momentum * v + d`` and ``u = d + momentum * v`` with ``d = g + weight_decay * s``: DANA-Slim's worker, Hakimi et al.
    2019 (arXiv 1907.11612). It belongs into an ``uplink``, where every worker has a ``v`` of its own."""

    needs: ClassVar[Need] = Need.VALUES | Need.WORKER_STATE
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)

    def init(self, params: Tensor | None, num_workers: int) -> Velocity:
        return Velocity()

    def update(self, push: Push, state: Velocity, server: ServerView) -> Push | Verdict:
        if not self.momentum and not self.weight_decay:
            return push
        d = decayed_at_worker(push.gradient, push, self.weight_decay)
        push.replaced = d.add(state.accumulate(self.momentum, d), alpha=self.momentum) if self.momentum else d
        return push


@methods.register("dana_slim")
class DanaSlim(Method):
    """DANA-Slim, Hakimi et al. 2019: workers keep the momentum and push a look-ahead of it; the server is that of plain ASGD.

    Momentum and weight decay are those of the optimizer (``sgd``); both act at the worker."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        own = worker_momentum(optimizer, look_ahead=False)
        worker = WorkerNesterov(momentum=own.momentum, weight_decay=own.weight_decay)
        return Bundle((), SGD(lr=own.lr), ASP(), Replica(), uplink=(worker,))
