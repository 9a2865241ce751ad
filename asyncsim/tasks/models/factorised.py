"""The modules of a factorisation machine on embeddings."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


class Rows(nn.Module):
    """The rows of a table of embeddings, the mean over the values of each column: IDs ``(B, S)`` to ``(B, F, D)``.

    The S places of a sample belong to F columns. The ID 0 stands for no value; a column without any is zeros.
    """

    places: Tensor

    def __init__(self, tables: tuple[tuple[int, int], ...], dim: int) -> None:
        super().__init__()
        self.table = nn.Embedding(1 + sum(rows for rows, _ in tables), dim)
        nn.init.normal_(self.table.weight, std=0.05)
        owners = [column for column, (_, values) in enumerate(tables) for _ in range(values)]
        self.register_buffer("places", torch.eye(len(tables))[owners])

    def forward(self, ids: Tensor) -> Tensor:
        there = (ids > 0).to(self.places.dtype)
        sums = torch.einsum("bsd,bs,sf->bfd", self.table(ids), there, self.places)
        return sums / (there @ self.places).clamp(min=1).unsqueeze(-1)


class Interactions(nn.Module):
    """Scores ``(B,)`` of rows ``(B, F, 1 + D)``, each a weight and a vector: the sum of the weights, of the products of every two
    vectors (``((sum v)^2 - sum v^2) / 2``), and what a multilayer perceptron makes of all vectors."""

    def __init__(self, columns: int, dim: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        widths = [columns * dim, *hidden]
        layers = [part for one, other in pairwise(widths) for part in (nn.Linear(one, other), nn.ReLU())]
        self.deep = nn.Sequential(*layers, nn.Linear(widths[-1], 1))

    def forward(self, rows: Tensor) -> Tensor:
        vectors = rows[..., 1:]
        products = (vectors.sum(1).square() - vectors.square().sum(1)).sum(-1) / 2
        return rows[..., 0].sum(1) + products + self.deep(vectors.flatten(1)).squeeze(-1)


def deep_fm(tables: tuple[tuple[int, int], ...], dim: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """The whole model, IDs ``(B, S)`` to scores ``(B,)``; ``tables`` has (rows, values a cell) of each column."""
    return nn.Sequential(Rows(tables, 1 + dim), Interactions(len(tables), dim, hidden))
