"""Models of clicks, which take IDs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from asyncsim.tasks.models.dense import Width, affine
from asyncsim.tasks.spec import Kind, ModelSpec, Signature, models

if TYPE_CHECKING:
    from torch import nn


@models.register("deep_fm")
class DeepFm(ModelSpec):
    """A factorisation machine and a multilayer perceptron on the same embeddings (Guo et al. 2017, arXiv 1703.04247).

    The score of a sample, the logit of a click::

        score = sum_f w_f  +  sum_(f < g) v_f . v_g  +  mlp(v_1, ..., v_F)

    Each value of each column has a row ``(w, v)`` of one table, ``v`` of ``embedding`` numbers; of several values in a cell the
    mean is taken. Differs from the paper in having no dropout, and in the initial values, normal with deviation 0.05.
    """

    takes: ClassVar[tuple[Kind, ...]] = ("ids",)
    embedding: int = Field(default=8, ge=1)
    hidden: Annotated[tuple[Width, ...], Field(max_length=1000)] = (16,)

    def num_parameters(self, signature: Signature) -> int:
        rows = 1 + sum(rows for rows, _ in signature.tables)
        layers = affine([len(signature.tables) * self.embedding, *self.hidden, 1])
        return rows * (1 + self.embedding) + sum(map(math.prod, layers))

    def module(self, signature: Signature) -> nn.Module:
        from asyncsim.tasks.models.factorised import deep_fm

        return deep_fm(signature.tables, self.embedding, self.hidden)
