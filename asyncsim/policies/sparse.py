"""What sparse messages share: which entries of a vector are sent, and how many bytes that takes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.policies.transform import Shapes, Transform
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor

LEAST_RATIO = 1e-9


class Sparsity(Spec):
    """``ratio``: the share of the entries that a message has. ``per``: the largest of every parameter tensor (``layer``) or of
    the whole vector (``model``). ``entry_bytes``: of an entry, which is a value and its index."""

    ratio: float = Field(default=0.01, ge=LEAST_RATIO, le=1)
    per: Literal["layer", "model"] = "layer"
    entry_bytes: float = Field(default=8.0, ge=0)


class Sparse(Sparsity, Transform):
    """A transform that passes on the largest entries of a vector by absolute value: ``max(1, int(n * ratio))`` of every piece of
    ``n`` entries, exactly.

    Between entries that are equal in size the choice is PyTorch's. A message that would be longer than the whole vector is sent
    whole. With ``ratio: 1`` everything is passed on.
    """

    def count(self, numbers: int, ratio: float | None = None) -> int:
        """How many of so many entries are sent."""
        return max(1, int(numbers * (self.ratio if ratio is None else ratio))) if numbers else 0

    def largest(self, values: Tensor, server: ServerView, ratio: float | None = None) -> Tensor:
        """Which entries of ``values``, shape ``(P,)``, are sent, as booleans of the same shape."""
        sizes = values.abs()
        chosen = sizes < 0  # none
        for piece in server.layers if self.per == "layer" and server.layers else (slice(0, len(values)),):
            count = self.count(piece.stop - piece.start, ratio)
            if count:
                chosen[piece][sizes[piece].topk(count).indices] = True
        return chosen

    def layered_bytes(self, nbytes: float, shapes: Shapes) -> float:
        layers = [math.prod(shape) for shape in shapes]
        pieces = layers if self.per == "layer" else [sum(layers)]
        return min(nbytes, self.entry_bytes * sum(map(self.count, pieces)))

    def sent_bytes(self, push: Push, nbytes: float, numbers: int) -> float:
        return min(nbytes, self.entry_bytes * int(push.gradient.count_nonzero()))
