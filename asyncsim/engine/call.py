"""One call of a kernel's batched form: several snapshots, several batches, as stacked tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asyncsim.messages import Future
from asyncsim.tasks.batches import stacked

if TYPE_CHECKING:
    from asyncsim.engine.dense import DenseNetwork
    from asyncsim.engine.vectorised import VectorisedModule

ROW = 16  # numbers to which rows of snapshots are padded: 64 bytes or more


class Call:
    """Up to ``width`` results that are computed together; what a kernel's ``batched`` is given.

    ``jobs`` are the ``W`` futures (each with ``worker``, ``step``, ``kernel``), the last ones perhaps repetitions that fill the
    call up; ``params``, shape ``(W, P)``, their snapshots, not to be written to.
    """

    def __init__(self, jobs: list[Future], network: DenseNetwork | VectorisedModule) -> None:
        self.jobs = jobs
        self._network = network
        self._rows = _rows([job.params for job in jobs])  # type: ignore[misc]  # what is pending has a snapshot
        self.params = self._rows[:, : network.num_parameters]

    def gradients(self, params: Tensor, steps: list[int]) -> tuple[Tensor, Tensor]:
        """Gradients ``(W, P)`` at ``params`` (W, P) and mean losses ``(W,)``; row ``i`` for the batch ``steps[i]`` of job ``i``'s
        worker."""
        rows = self._rows if params is self.params else _aligned(params)
        gradients, losses = self._network.gradients(rows, *batches(self.jobs, steps))
        return gradients[:, : self._network.num_parameters], losses


def _rows(params: list[Tensor]) -> Tensor:
    """Snapshots as rows ``(W, P')`` that all begin at a multiple of 64 bytes; a single one is not copied."""
    if len(params) == 1:
        return params[0].unsqueeze(0)
    size = len(params[0])
    rows = params[0].new_empty(len(params), -(-size // ROW) * ROW)
    torch.stack(params, out=rows[:, :size])
    return rows


def _aligned(matrix: Tensor) -> Tensor:
    """``matrix`` (W, P) with rows that begin at a multiple of 64 bytes."""
    return _rows(list(matrix.unbind(0))) if len(matrix) > 1 else matrix.contiguous()


def batches(jobs: list[Future], steps: list[int]) -> tuple[Tensor, Tensor]:
    """Inputs ``(W, B, ...)`` and targets ``(W, B, ...)`` of the jobs."""
    engines: list[Any] = [job.engine for job in jobs]  # each is a `BatchedEngine`
    return stacked([(each.task.source, job.worker, step) for each, job, step in zip(engines, jobs, steps, strict=True)])
