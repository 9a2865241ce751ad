"""Numbers for groups of parameters in place of single ones: the norms of the layers of a flat vector, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def norms(vector: Tensor, groups: Sequence[slice]) -> Tensor:
    """The L2 norm of each group of the entries of ``vector``, shape ``(len(groups),)``."""
    values = vector.new_empty(len(groups))
    for index, group in enumerate(groups):
        values[index] = vector[group].norm()
    return values


def spread(values: Tensor, like: Tensor, groups: Sequence[slice]) -> Tensor:
    """A vector of the shape of ``like`` that holds the value of its group at every entry; the groups cover all of it."""
    vector = like.new_empty(like.shape)
    for index, group in enumerate(groups):
        vector[group] = values[index]
    return vector
