"""PowerSGD: a worker sends two thin matrices in place of every large one, found by one step of power iteration::

    for every matrix of the gradient, M (n, m), with what was left over:   M <- M + E
        P <- orthonormal(M Q);   Q <- M' P                   Q (m, rank) goes on from push to push, and begins at random
        sent: P and Q, which stand for P Q';   E <- M - P Q'
    vectors, and matrices that P and Q would not make smaller, are sent as they are
    server:  theta <- theta - lr * d(what was sent)          d: the scenario's optimiser

T. Vogels, S. P. Karimireddy, M. Jaggi 2019, "PowerSGD: Practical Low-Rank Gradient Compression for Distributed Optimization"
(arXiv 1905.13727). The rule is as we remember the paper (high confidence).

Order: error feedback, one step of the power iteration, then the push. All workers begin with the same ``Q``. The columns of
``M Q`` are made orthonormal one after the other. One of which nothing is left is 0, and its column of ``Q`` begins at random
again (ours: it would be rounding, or 0 for ever); ``Q`` is kept orthonormal, which leaves ``P P'`` what it is and rounds less.
A tensor of more than two dimensions is the matrix of its first against all others.
Differs from the paper, in which the workers average ``M Q`` and then ``M' P`` by all-reduce, so that all have one ``P``: here
every worker finds its own, as it must where nobody waits for the others, and the mean of a round may have a higher rank.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import Shapes, State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


NEARLY = 1e-6
"""The share of a column that has to be left when those before it are taken away."""


class LowRankSettings(Spec):
    """``rank``: the number of columns of ``P`` and ``Q``."""

    rank: int = Field(default=2, ge=1)


@dataclass(slots=True)
class Remainder(State):
    """What was left over at the last push, shape ``(P,)``, and the ``Q`` (m, rank) of every matrix, by its place among the
    tensors."""

    left: Tensor | None = None
    bases: dict[int, Tensor] = field(default_factory=dict)


@policies.register("low_rank")
class LowRank(LowRankSettings, Transform):
    """Send every matrix of a gradient as the product of two thin ones of ``rank`` columns, and what they lack with the next one;
    Vogels et al. 2019 (arXiv 1905.13727). For an ``uplink``."""

    needs: ClassVar[Need] = Need.VALUES | Need.WORKER_STATE

    def amplifies_rounding(self, step: StepRule) -> bool:
        """Where singular values are close, which directions are sent is decided by little, and the rest comes late."""
        return True

    def init(self, params: Tensor | None, num_workers: int) -> Remainder:
        return Remainder()

    def update(self, push: Push, state: Remainder, server: ServerView) -> Push | Verdict:
        whole = push.gradient if state.left is None else push.gradient + state.left
        sent = whole.clone()
        for index, (piece, shape) in enumerate(zip(server.layers, server.shapes, strict=True)):
            if self.thin(shape):
                matrix = whole[piece].view(shape[0], -1)
                sent[piece] = self._product(matrix, index, state, server).reshape(-1)
        state.left = whole - sent
        push.replaced = sent
        return push

    def _product(self, matrix: Tensor, index: int, state: Remainder, server: ServerView) -> Tensor:
        """``P Q'`` for a matrix, of its shape."""
        draws = server.streams("low_rank", index, server.stage).standard_normal((matrix.shape[1], self.rank))
        start = matrix.new_tensor(draws)
        left = orthonormal(matrix @ state.bases.get(index, start))
        right = matrix.t() @ left
        basis = orthonormal(right)
        state.bases[index] = basis.where(basis.any(0), start)
        return left @ right.t()

    def thin(self, shape: tuple[int, ...]) -> bool:
        """Are ``P`` and ``Q`` smaller than a tensor of this shape?"""
        return len(shape) > 1 and self.rank * (shape[0] + math.prod(shape[1:])) < math.prod(shape)

    def layered_bytes(self, nbytes: float, shapes: Shapes) -> float:
        sent = sum(self.rank * (each[0] + math.prod(each[1:])) if self.thin(each) else math.prod(each) for each in shapes)
        return nbytes * sent / max(1, sum(map(math.prod, shapes)))


def orthonormal(columns: Tensor) -> Tensor:
    """The columns, made orthonormal from left to right (Gram and Schmidt), of the same shape ``(n, rank)``. One that nearly
    depends on those before it is 0."""
    made = columns.clone()
    for index in range(columns.shape[1]):
        column, before = columns[:, index], made[:, :index]
        for _ in range(2):  # the second time takes away what rounding has left
            column = column - before @ (before.t() @ column)
        length = column.norm()
        depends = length <= NEARLY * columns[:, index].norm()
        made[:, index] = (column / length).masked_fill(depends, 0)
    return made


@methods.register("powersgd")
class PowerSgd(LowRankSettings, Method):
    """PowerSGD, Vogels et al. 2019: gradients of low rank, with the rest in the next one; asynchronous, every worker by
    itself."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, ASP(), Replica(), uplink=(self.part(LowRank),))
