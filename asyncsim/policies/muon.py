"""Momentum whose step is made orthogonal, matrix by matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.policies.momentum import Moments
from asyncsim.policies.step_rule import StepRule, is_one, optimizers

if TYPE_CHECKING:
    from torch import Tensor

QUINTIC = 3.4445, -4.7750, 2.0315
"""The coefficients of the Newton-Schulz polynomial ``a s + b s^3 + c s^5``; it brings singular values to about 0.7 to 1.2."""


@dataclass(slots=True)
class MuonMoments(Moments):
    """Adam's moments, and the running mean ``m`` of the gradient with Muon's own momentum, shape ``(P,)``."""

    mean: Tensor | None = None


@optimizers.register("muon")
class Muon(StepRule):
    """The momentum of each matrix, with its singular values brought near 1 (Muon, Jordan et al. 2024).

    https://kellerjordan.github.io/posts/muon/, in PyTorch's form::

        m <- momentum m + (1 - momentum) g              n = (1 - momentum) g + momentum m, or m without ``nesterov``
        direction = scale * orthogonal(n) + weight_decay * theta
        scale: sqrt(max(1, rows / columns))  (``shape``),  or 0.2 sqrt(max(rows, columns))  (``rms``, the size of AdamW's steps)

    ``orthogonal`` is five steps of Newton-Schulz iteration from ``n / |n|``. A tensor of more than two dimensions (a convolution)
    is the matrix of its first dimension by all others. Vectors and embedding tables take AdamW steps of the rate ``adam_lr``,
    which the schedule multiplies as it does ``lr``, with moments of their own (``beta1``, ``beta2``, ``eps``) and the same weight
    decay, ``lr * weight_decay * theta``. The penalty divides the finished direction.

    Differs from PyTorch's in computing with the run's precision, not in bfloat16, and in what it does with other tensors.
    """

    lr: float = Field(default=0.02, ge=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    nesterov: bool = True
    iterations: int = Field(default=5, ge=1, lt=100)
    scale: Literal["shape", "rms"] = "shape"
    adam_lr: float = Field(default=3e-4, ge=0)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)

    @property
    def amplifies_rounding(self) -> bool:
        return True  # directions with singular values of rounding alone are enlarged by the polynomial

    def init(self, params: Tensor | None, num_workers: int) -> MuonMoments:
        return MuonMoments()

    def direction(self, push: Push, state: MuonMoments, server: ServerView) -> Tensor:
        gradient, params = push.gradient, server.params
        if state.mean is None:
            state.mean = params.new_zeros(params.shape)
        mean = state.mean.lerp_(gradient, 1.0 - self.momentum)
        ahead = gradient.lerp(mean, self.momentum) if self.nesterov else mean
        state.accumulate(self.beta1, self.beta2, gradient)
        update = state.direction(self.beta1, self.beta2, self.eps).mul_(self.adam_lr / self.lr if self.lr else 0.0)
        rows = {piece.start for piece, _ in server.tables}
        for piece, shape in zip(server.layers, server.shapes, strict=True):
            if len(shape) > 1 and piece.start not in rows:
                matrix = orthogonal(ahead[piece].view(shape[0], -1), self.iterations)
                update[piece] = matrix.mul_(self._size(*matrix.shape)).reshape(-1)
        if self.weight_decay:
            update.add_(params, alpha=self.weight_decay)
        return update if is_one(push.penalty) else update.div_(push.penalty)

    def _size(self, rows: int, columns: int) -> float:
        return max(1.0, rows / columns) ** 0.5 if self.scale == "shape" else 0.2 * max(rows, columns) ** 0.5


def orthogonal(matrix: Tensor, iterations: int) -> Tensor:
    """A new matrix with the singular vectors of ``matrix``, both of shape (r, c), and singular values near 1: Newton-Schulz
    iteration from ``matrix / |matrix|``; zeros for zeros."""
    a, b, c = QUINTIC
    wide = matrix.t() if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / wide.norm().clamp(min=1e-7)
    for _ in range(iterations):
        gram = wide @ wide.t()
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    return wide.t().contiguous() if matrix.shape[0] > matrix.shape[1] else wide
