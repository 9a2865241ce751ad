"""The layout of a module's parameters in one flat vector."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


def trained(module: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """The names and the parameters of a module that require gradients, each once. The others are frozen: constants of the model
    that no worker sends."""
    return [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]


@dataclass(frozen=True)
class Layout:
    """Parameter tensors that are trained, one after the other in the order of ``module.parameters()``, without gaps: the vector
    of shape ``(P,)`` equals ``torch.nn.utils.parameters_to_vector`` where none is frozen."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    embeddings: tuple[bool, ...]  # is a tensor the table of an ``nn.Embedding``, with a row for each ID?

    @classmethod
    def of(cls, module: nn.Module) -> Layout:
        from torch import nn

        named = trained(module)
        tables = {id(each.weight) for each in module.modules() if isinstance(each, nn.Embedding)}
        return cls(
            tuple(name for name, _ in named), tuple(tuple(parameter.shape) for _, parameter in named),
            tuple(id(parameter) in tables for _, parameter in named),
        )  # fmt: skip

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(map(math.prod, self.shapes))

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        return tuple(accumulate(self.sizes, initial=0))[:-1]

    @cached_property
    def num_parameters(self) -> int:
        return sum(self.sizes)

    @cached_property
    def tables(self) -> tuple[tuple[slice, int], ...]:
        """The piece of the flat vector of each table of embeddings, and the length of a row."""
        every = zip(self.layers, self.shapes, self.embeddings, strict=True)
        return tuple((piece, shape[-1]) for piece, shape, embedding in every if embedding)

    @cached_property
    def layers(self) -> tuple[slice, ...]:
        """The piece of the flat vector of each parameter tensor."""
        return tuple(slice(offset, offset + size) for offset, size in zip(self.offsets, self.sizes, strict=True))
