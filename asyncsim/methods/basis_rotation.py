"""Basis rotation: Adam in a pipeline, whose second moment lives in the basis of each matrix's own gradients::

    for every matrix, with gradient G (r, c), at update t (other parameters: AdamW):
        L <- beta2 L + (1 - beta2) G G^T               R <- beta2 R + (1 - beta2) G^T G
        U, V: eigenvectors of L and R                  at t = 1 exactly, then every ``refresh`` updates one step of orthogonal
                                                       iteration:  U <- Q of the QR decomposition of L U,  V of R V
        m <- beta1 m + (1 - beta1) G                   v <- beta2 v + (1 - beta2) (U^T G V)^2
        theta <- theta - lr * sqrt(1 - beta2^t) / (1 - beta1^t) * U (U^T m V / (sqrt(v) + eps)) V^T  -  lr * weight_decay * theta

2026 (arXiv 2602.03515); from a reading of the public code joonkyoo/basis-rotation. The bases are to be those of the curvature.

Order: PipeDream with a stash; at an update first L and R, then the bases if it is their turn (columns sorted by their estimated
eigenvalues, largest first, ``v`` with them), then the moments, then the step.
Ours: refreshes come at t = 1, 1 + ``refresh``, ...; a side longer than ``largest`` is not rotated; a penalty divides the finished
step. Tensors of more than two dimensions are other parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import OneF1BMethod
from asyncsim.policies import Adam, Moments, StepRule, heavy_ball
from asyncsim.policies.step_rule import is_one, optimizers
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor


class BasisSettings(Spec):
    """The fields of the step rule, and of the method that holds one. ``refresh``: updates between two refreshes of the bases;
    ``sides``: which sides of a matrix are rotated; ``largest``: the longest one (rows or columns) that is."""

    refresh: int = Field(default=10, ge=1)
    sides: Literal["both", "left", "right"] = "both"
    largest: int = Field(default=4096, ge=1)


@dataclass(slots=True)
class RotatedMoments(Moments):
    """Adam's moments, the second in the rotated bases; and by the number of the parameter tensor, for each side that is rotated,
    the mean of ``G G^T`` (r, r) or ``G^T G`` (c, c), and the basis, of the same shape."""

    left: dict[int, Tensor] = field(default_factory=dict)
    right: dict[int, Tensor] = field(default_factory=dict)
    left_basis: dict[int, Tensor] = field(default_factory=dict)
    right_basis: dict[int, Tensor] = field(default_factory=dict)


@optimizers.register("basis_rotation")
class BasisRotation(BasisSettings, StepRule):
    """AdamW in the eigenbases of each matrix's gradients (2026, arXiv 2602.03515), with the defaults of the public code."""

    lr: float = Field(default=3e-3, ge=0)
    beta1: float = Field(default=0.95, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)

    @property
    def amplifies_rounding(self) -> bool:
        return True  # directions in which no gradient was seen are divided by a second moment of rounding alone

    def init(self, params: Tensor | None, num_workers: int) -> RotatedMoments:
        return RotatedMoments()

    def direction(self, push: Push, state: RotatedMoments, server: ServerView) -> Tensor:
        gradient, params = push.gradient, server.params
        if state.first is None or state.second is None:
            state.first, state.second = params.new_zeros(params.shape), params.new_zeros(params.shape)
        state.steps += 1
        tensors = enumerate(zip(server.layers, server.shapes, strict=True))
        matrices, rotated = [(index, *both) for index, both in tensors if len(both[1]) == 2], gradient.clone()
        for index, piece, shape in matrices:
            matrix = gradient[piece].view(shape)
            self._turn(index, matrix, state.second[piece].view(shape), state)
            rotated[piece] = into(matrix, index, state).reshape(-1)
        first = state.first.lerp_(gradient, 1.0 - self.beta1)
        second = state.second.mul_(self.beta2).addcmul_(rotated, rotated, value=1.0 - self.beta2)
        correction = (1.0 - self.beta2**state.steps) ** 0.5
        update = first.div(second.sqrt().div_(correction).add_(self.eps))
        for index, piece, shape in matrices:
            turned = into(first[piece].view(shape), index, state) / second[piece].view(shape).sqrt().add_(self.eps)
            update[piece] = out_of(turned, index, state).mul_(correction).reshape(-1)
        update.div_(1.0 - self.beta1**state.steps)
        if self.weight_decay:
            update.add_(params, alpha=self.weight_decay)
        return update if is_one(push.penalty) else update.div_(push.penalty)

    def _turn(self, index: int, matrix: Tensor, second: Tensor, state: RotatedMoments) -> None:
        """Take one more gradient into the means, and refresh the bases if it is their turn; ``second`` follows, in place."""
        left = "right", matrix, state.left, state.left_basis, second
        right = "left", matrix.t(), state.right, state.right_basis, second.t()
        for other, oriented, means, bases, moment in (left, right):
            if self.sides == other or len(oriented) > self.largest:
                continue
            product = (oriented @ oriented.t()).mul_(1.0 - self.beta2)
            mean = means[index] = product.add_(means[index], alpha=self.beta2) if index in means else product
            if (state.steps - 1) % self.refresh:
                continue
            if index in bases:
                bases[index], order = improved(bases[index], mean)
                moment.copy_(moment[order])
            else:
                bases[index] = mean.nan_to_num(0.0, 0.0, 0.0).svd().U  # its eigenvectors, largest first; a diverged run goes on


def improved(basis: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """The basis of one side after a step of orthogonal iteration with ``mean``, both (n, n), with the columns sorted by their
    estimated eigenvalues; and that order of the old columns, (n,)."""
    image = mean @ basis
    order = (basis * image).sum(0).argsort(descending=True, stable=True)
    reflectors, scales = image[:, order].geqrf()
    return reflectors.orgqr(scales), order


def into(matrix: Tensor, index: int, state: RotatedMoments) -> Tensor:
    """``U^T matrix V``, shape (r, c)."""
    left, right = state.left_basis.get(index), state.right_basis.get(index)
    matrix = matrix if left is None else left.t() @ matrix
    return matrix if right is None else matrix @ right


def out_of(matrix: Tensor, index: int, state: RotatedMoments) -> Tensor:
    """``U matrix V^T``, shape (r, c)."""
    left, right = state.left_basis.get(index), state.right_basis.get(index)
    matrix = matrix if left is None else left @ matrix
    return matrix if right is None else matrix @ right.t()


@methods.register("basis_rotation")
class BasisRotationMethod(BasisSettings, OneF1BMethod):
    """PipeDream with rotated AdamW (2026, arXiv 2602.03515): rate, moments and decoupled decay of the optimizer ``adam``; rate,
    decay and (for ``beta1``) momentum of ``sgd``; or the optimizer ``basis_rotation``, which has the code's, as it is."""

    def step(self, optimizer: StepRule) -> StepRule:
        if isinstance(optimizer, BasisRotation):
            return optimizer
        if type(optimizer) is Adam and (optimizer.decoupled or not optimizer.weight_decay):
            own = {name: getattr(optimizer, name) for name in ("lr", "beta1", "beta2", "eps", "weight_decay")}
        else:
            own = heavy_ball(optimizer, "basis rotation, for which there are basis_rotation and adam with `decoupled: true` too,")
            own["beta1"] = own.pop("momentum")
        return BasisRotation(**own, refresh=self.refresh, sides=self.sides, largest=self.largest)
