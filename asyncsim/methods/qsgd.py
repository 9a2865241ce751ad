"""QSGD: a worker rounds each number of its gradient at random to one of a few levels, so that the mean is right::

    for every bucket v of numbers, with s levels:   z_j = s * |v_j| / |v|
        sent_j = |v| / s * sign(v_j) * (floor(z_j) + 1)   with the probability z_j - floor(z_j)
                 |v| / s * sign(v_j) * floor(z_j)         otherwise                     E[sent] = v
    server:  theta <- theta - lr * d(what was sent)       d: the scenario's optimiser

D. Alistarh, D. Grubic, J. Li, R. Tomioka, M. Vojnovic 2017, *QSGD* (arXiv 1610.02132). The rule is as we remember the paper.

Order: the vector is cut into buckets of consecutive numbers (the last may be shorter), each is rounded by its own norm, and the
server's optimiser gets the rounded gradient. With ``norm: max`` ``|v|`` is the largest number instead of the Euclidean norm.
The draws are a function of seed, worker, step and stage, and nobody else's.
Differs from the paper, which codes levels so that frequent ones are short (Elias); here every number takes the
``ceil(log2(2 s + 1))`` bits of its level and sign, and every bucket 4 bytes for its norm, so a size depends on counts alone.
"""

from __future__ import annotations

from math import ceil, log2
from typing import TYPE_CHECKING, ClassVar, Literal

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

NORM_BYTES = 4


class QuantisationSettings(Spec):
    """``levels``: s. ``bucket``: how many numbers share a norm."""

    levels: int = Field(default=7, ge=1, le=2**20)
    bucket: int = Field(default=512, ge=1)
    norm: Literal["l2", "max"] = "l2"


@policies.register("qsgd")
class Quantisation(QuantisationSettings, Transform):
    """Round every number at random to one of ``levels`` multiples of its bucket's norm, without bias; Alistarh et al. 2017
    (arXiv 1610.02132)."""

    needs: ClassVar[Need] = Need.VALUES

    def amplifies_rounding(self, step: StepRule) -> bool:
        """A rounding decides now and then between two levels, and a chain that chooses entries by size finds many of one size."""
        return True

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        gradient = push.gradient
        scale = self._scales(gradient)
        level = (gradient.abs() / scale.masked_fill(scale == 0, 1) * self.levels).clamp(max=self.levels)
        low = level.floor()
        draws = server.streams("quantise", push.worker, push.step, server.stage).random(len(gradient))
        up = gradient.double().new_tensor(draws) < (level - low).double()
        push.replaced = (low + up) * gradient.sign() * scale / self.levels
        return push

    def _scales(self, gradient: Tensor) -> Tensor:
        """The norm of the bucket of every number, shape ``(P,)``."""
        numbers, width = len(gradient), self.bucket
        rows = -(-numbers // width)
        padded = gradient.new_zeros(rows * width)
        padded[:numbers] = gradient
        buckets = padded.view(rows, width)
        norms = buckets.norm(dim=1) if self.norm == "l2" else buckets.abs().amax(dim=1)
        return norms.repeat_interleave(width)[:numbers]

    def nbytes(self, nbytes: float, numbers: int) -> float:
        bits = ceil(log2(2 * self.levels + 1))
        return min(nbytes, ceil(numbers * bits / 8) + NORM_BYTES * ceil(numbers / self.bucket))


@methods.register("qsgd")
class Qsgd(QuantisationSettings, Method):
    """QSGD, Alistarh et al. 2017: gradients rounded at random to a few levels, without bias."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, ASP(), Replica(), uplink=(self.part(Quantisation),))
