"""DANA's step rule: one momentum per worker, and a look-ahead over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.policies.push import Push, ServerView
from asyncsim.policies.steps import StepRule, buffer, optimizers
from asyncsim.policies.transform import State

if TYPE_CHECKING:
    from torch import Tensor


@optimizers.register("worker_momentum")
class WorkerMomentum(StepRule):
    """DANA: heavy-ball SGD with a momentum for each worker, and workers that are handed a look-ahead over all of them.

    The rule of DANA-Zero, Hakimi, Barkai, Gabel, Schuster (arXiv 1907.11612)::

        v_i <- momentum * v_i + d          theta <- theta - lr * v_i
        a worker is handed  theta - lr * momentum * sum_j v_j

    The sum is kept up to date, ``O(P)`` a step; memory is ``N`` velocities. Without ``look_ahead`` workers are handed ``theta``
    (Multi-ASGD). Momentum 0 is plain SGD. The look-ahead uses the learning rate of the last
    arrival. The velocity of a worker that has left stays in the sum.
    """

    momentum: float = Field(0.9, ge=0, lt=1)
    look_ahead: bool = True

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"velocities": {}, "sum": None, "last": None}  # worker -> (P,); (P,); the worker that stepped last

    def direction(self, push: Push, state: State, server: ServerView) -> Tensor:
        d = self.decayed(push, server)
        if not self.momentum:
            return d
        old = state["velocities"].get(push.worker)
        new = d.clone() if old is None else old.mul(self.momentum).add_(d)
        state["velocities"][push.worker] = new
        state["last"] = push.worker
        if state["sum"] is None:
            state["sum"] = new.clone()
        elif old is None:
            state["sum"].add_(new)
        else:
            state["sum"].add_(new).sub_(old)
        return new

    def velocity(self, state: State, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state["velocities"].get(state["last"]), server)

    def view(self, params: Tensor, state: State, server: ServerView, worker: int) -> Tensor:
        if not self.look_ahead or not self.momentum or state["sum"] is None:
            return params
        return params.add(state["sum"], alpha=-server.lr * self.momentum)
