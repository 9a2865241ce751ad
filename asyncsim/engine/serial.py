"""The reference engine: one gradient at a time, when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from asyncsim.engine import kernels
from asyncsim.engine.futures import Future, Gradient

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class SerialEngine:
    """Evaluates a future by itself when its result is asked for; work that nobody asks for is never done.

    The mean of plain gradients on one snapshot is one pass over the union of their batches where samples do not interact
    (no batch norm, no dropout): the same mathematics in another order of summation, at a fraction of the time.
    """

    kind = "serial"

    def __init__(self, task: Task, streams: Streams) -> None:
        self.task = task
        self.streams = streams
        self.computed = 0
        self.cancelled = 0

    def submit(self, kernel: kernels.Kernel, params: Tensor, worker: int, step: int) -> Future:
        """A pending future for ``kernel`` at snapshot ``params`` of shape ``(P,)``."""
        return Future(self, kernel, params, worker, step)

    def mean(self, futures: list[Future]) -> Future:
        """The mean of several futures (at least two), as late as they are."""
        return Future(self, futures[0].kernel, None, futures[-1].worker, futures[-1].step, parts=futures)

    def evaluate(self, future: Future) -> Gradient:
        if future.parts is None:
            self.computed += 1
            return future.kernel(self.task, self.streams, future.params, future.worker, future.step)
        parts = future.parts
        if self._is_union(parts):
            self.computed += len(parts)
            return kernels.union_gradient(self.task, parts[0].params, [(part.worker, part.step) for part in parts])
        results = [part.result() for part in parts]
        total = results[0].gradient + results[1].gradient
        for result in results[2:]:
            total.add_(result.gradient)
        statistics = None if results[0].statistics is None else torch.stack([r.statistics for r in results]).mean(0)
        return Gradient(total.div_(len(results)), torch.stack([r.loss for r in results]).mean(), statistics)

    def _is_union(self, parts: list[Future]) -> bool:
        first = parts[0].params
        return self.task.additive and all(
            part.pending and part.params is first and first is not None and part.kernel is kernels.gradient for part in parts
        )
