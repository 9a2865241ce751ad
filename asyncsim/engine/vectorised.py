"""Gradients of any module without batch norm or dropout, many snapshots at once, by ``torch.func``.

The general path of the batched engine: on a GPU it saves launches; on a CPU it is slower than a plain loop for most models.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.func import functional_call, grad_and_value, vmap

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task


@dataclass(frozen=True)
class VectorisedModule:
    """``vmap(grad(loss))`` over the rows of a matrix of flat parameters. It compares equal to itself only, so each call serves
    one task."""

    task: Task = field(repr=False)
    kind = "vmap"

    @property
    def num_parameters(self) -> int:
        return self.task.layout.num_parameters

    def gradients(self, rows: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients ``(W, P)`` and losses ``(W,)`` for snapshots ``rows`` (W, at least P), inputs and targets ``(W, B, ...)``."""
        task = self.task
        names = task.layout.names
        sizes, shapes = list(task.layout.sizes), task.layout.shapes

        def loss(row: Tensor, x: Tensor, y: Tensor) -> Tensor:
            pieces = row.split(sizes)
            values = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
            return task.loss(functional_call(task.module, values, (x,)), y)

        with torch.enable_grad():
            return vmap(grad_and_value(loss))(rows[:, : self.num_parameters], inputs, targets)
