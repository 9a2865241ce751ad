"""The task that remembers: the memory of a network's nodes beside its parameters."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from asyncsim.errors import UserError, nearest
from asyncsim.messages import Gradient
from asyncsim.streams import Streams
from asyncsim.tasks.models.tgn import Links, Tgn
from asyncsim.tasks.objective import LINK_METRICS, Custom, link_metrics
from asyncsim.tasks.partners import Stream, alike
from asyncsim.tasks.task import Task

Write = tuple[Tensor, Tensor]
"""Nodes, shape ``(V,)``, and their new rows, ``(V, W)``."""


class LinkTask(Task):
    """Which pairs interact next? Gradients and evaluations are functions of the parameters and of what nodes remember.

    What is remembered is no part of the task: whoever computes hands it in, as the rows of all nodes, shape ``(N, W)``."""

    module: Tgn
    remembers = True

    def __init__(self, module: Tgn, source: Stream, bounds: dict[str, tuple[int, int]]) -> None:
        data = source.data
        everything = torch.from_numpy(np.column_stack([data.i, data.j, data.time, data.features]))
        splits = {name: (everything[slice(*each)], everything[slice(*each), 2]) for name, each in bounds.items()}
        super().__init__(module, source, Custom(F.binary_cross_entropy_with_logits), splits)
        self.stream, self.bounds = source, bounds
        self.metrics = LINK_METRICS
        self.additive = False  # one batch writes what the next reads

    def unwritten(self) -> Tensor:
        """The rows of all nodes before the first interaction, shape ``(N, W)``."""
        return self.module.unwritten(self.stream.data.nodes)

    def batch(self, worker: int, step: int) -> tuple[Links, Tensor]:
        """The interactions of (worker, step) and as many other pairs, with the rows of nodes of which nothing is known, and what
        is to be told: 1 and 0, shape ``(2 B,)``. Whoever remembers something replaces the rows."""
        batch, targets = self.stream.batch(worker, step)
        return batch._replace(rows=self.module.unwritten(len(batch.nodes))), targets

    def learn(self, params: Tensor, batch: Links, targets: Tensor) -> tuple[Gradient, Write]:
        """The gradient at ``params``, shape ``(P,)``, of a batch with the rows that were read for it, and what it writes."""
        self.bind(params)
        memory = self.module.recalled(batch.rows)
        loss = self.loss(self.module.scores(batch, memory), targets)
        parts = torch.autograd.grad(loss, self.parameters)
        gradient = torch.cat([part.reshape(-1) for part in parts])
        return Gradient(gradient, loss.detach(), None), self.module.written(batch, memory.detach())

    def similar(self, count: int) -> Tensor:
        """The ``count`` nodes that are most like each node, shape ``(N, count)``: those with the largest share of common partners
        among all partners of the two, in the interactions that are learnt from; -1 where there are no more."""
        data, train = self.stream.data, self.bounds["train"][1]
        if (train, count) not in data.prepared:
            data.prepared[train, count] = torch.from_numpy(alike(data, train, count))
        return data.prepared[train, count].to(self.parameters[0].device)

    def evaluate(self, params: Tensor, split: str = "test", statistics: Tensor | None = None) -> dict[str, float]:
        """Metrics of ``params`` on a split. Memory is made anew with them: all interactions before are gone through first, and
        each batch of the split is told before it is remembered."""
        if split not in self.bounds:
            why = "; set `task.validation` above 0" if split == "validation" else nearest(split, self.bounds)
            raise UserError(f"this task has no {split!r} split, only {', '.join(self.bounds)}{why}")
        if not bool(torch.isfinite(params).all()):
            return dict.fromkeys(self.metrics, math.nan)
        self.bind(params)
        begin, end = self.bounds[split]
        rows, scores, truths = self.unwritten(), [], []
        with torch.no_grad():
            for first, last in self._batches(begin, end):
                batch, targets = self.stream.between(first, last, Streams(0)("evaluation_negative", first))
                batch = batch._replace(rows=rows[batch.nodes])
                memory = self.module.recalled(batch.rows)
                if first >= begin:
                    scores.append(self.module.scores(batch, memory))
                    truths.append(targets)
                nodes, written = self.module.written(batch, memory)
                rows[nodes] = written
        return link_metrics(torch.cat(scores), torch.cat(truths))

    def _batches(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The ends of all batches until ``end``; one of them ends at ``begin``."""
        size = self.batch_size
        starts = [*range(0, begin, size), *range(begin, end, size)]
        return [(first, min(first + size, begin if first < begin else end)) for first in starts]
