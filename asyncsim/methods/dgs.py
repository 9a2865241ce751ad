"""DGS, dual-way gradient sparsification: sparse pushes by a momentum that loses nothing, and sparse differences on the way back::

    worker i:  u_i <- momentum * u_i + g + weight_decay * w_i      w_i: its model, at which g is; u_i begins at zero
               send u_i where |u_i| is among the largest
               u_i <- u_i / momentum  where it was not sent        so that the next step does not decay it (SAMomentum)
    server:    theta <- theta - lr * (what was sent)
               the worker is sent the largest entries of theta - w_i, and adds them to w_i

Z. Yan et al. 2020, *DGS: Communication-Efficient Distributed Training via Dual-Way Gradient Sparsification* (arXiv 1910.10929).
Both rules were read in the public code (github.com/yanring/GradientServer).

Order: the gradient enters the momentum, the largest entries are chosen, and what is sent keeps its momentum; the server applies
it, and then the worker reads. All workers begin with the same model.
Differs from the code: it multiplies by the learning rate before it sends, here the server does so (the same for a constant rate);
it divides by the momentum and multiplies again in the next step, here what is not sent is kept as it is, which also says what
momentum 0 is (gradient dropping); it adds differences to the worker's model, here the entries themselves are taken over; ties.
Left out: a share that follows the learning rate, and the whole model for everybody after every 150 versions.
What is in ``u_i`` is lost when the worker goes down; the model that it holds is not, and nobody is sent a whole one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import SGD, State, StepRule
from asyncsim.policies.momentum import decayed_at_worker
from asyncsim.policies.sparse import LEAST_RATIO, Sparse, Sparsity
from asyncsim.policies.transform import policies
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Kept(State):
    """What enters a worker's next momentum, shape ``(P,)``: decayed where it was sent, whole where not; None before its first
    push."""

    velocity: Tensor | None = None


@policies.register("sa_momentum")
class SAMomentum(Sparse):
    """Send the largest entries of the worker's momentum; those that are not sent do not decay (Yan et al. 2020)."""

    needs: ClassVar[Need] = Need.VALUES | Need.WORKER_STATE
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=0.0, ge=0)

    def init(self, params: Tensor | None, num_workers: int) -> Kept:
        return Kept()

    def update(self, push: Push, state: Kept, server: ServerView) -> Push | Verdict:
        d = decayed_at_worker(push.gradient, push, self.weight_decay)
        velocity = d if state.velocity is None else state.velocity + d
        chosen = self.largest(velocity, server)
        state.velocity = (velocity * self.momentum).where(chosen, velocity)
        push.replaced = velocity.masked_fill(~chosen, 0)
        return push


@dataclass(slots=True)
class Held(State):
    """The model that each worker holds, shape ``(P,)``, by worker; one that has read nothing yet holds ``start``."""

    start: Tensor | None
    held: dict[int, Tensor] = field(default_factory=dict)


@policies.register("sparse_difference")
class SparseDifference(Sparse):
    """Hand a worker only those entries that differ most from what it holds; Yan et al. 2020 (arXiv 1910.10929).

    ``O(P)`` memory for each worker. What is not handed out remains in the difference, and comes later.
    """

    needs: ClassVar[Need] = Need.VALUES | Need.WORKER_VIEW

    def init(self, params: Tensor | None, num_workers: int) -> Held:
        return Held(params)

    def update(self, push: Push, state: Held, server: ServerView) -> Push | Verdict:
        return push

    def view(self, params: Tensor, state: Held, server: ServerView, worker: int) -> Tensor:
        held = state.held.get(worker, state.start)
        if self.ratio == 1 or held is None or held is params:
            return params
        return params.where(self.largest(params - held, server), held)

    def handed(self, view: Tensor, state: Held, server: ServerView, worker: int) -> None:
        state.held[worker] = view


@methods.register("dgs")
class Dgs(Sparsity, Method):
    """DGS, Yan et al. 2020: sparse pushes with SAMomentum, and for every worker the largest differences from what it holds.

    ``download_ratio`` is the share on the way back, by default ``ratio``.
    """

    download_ratio: float | None = Field(default=None, ge=LEAST_RATIO, le=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if not isinstance(optimizer, SGD) or optimizer.nesterov:
            raise ValueError("DGS has a momentum of its own at the workers; it needs the optimizer sgd, without nesterov")
        momentum = self.part(SAMomentum, momentum=optimizer.momentum, weight_decay=optimizer.weight_decay)
        ratio = self.ratio if self.download_ratio is None else self.download_ratio
        back = self.part(SparseDifference, ratio=ratio)
        return Bundle((), SGD(lr=optimizer.lr), ASP(), Replica(), uplink=(momentum,), downlink=(back,))
