"""The reference engine: one gradient at a time, when it is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from asyncsim.engine import kernels
from asyncsim.messages import Future, Gradient

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.engine import Useful
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class SerialEngine:
    """Evaluates a future by itself when its result is asked for; work that nobody asks for is never done.

    The mean of plain gradients on one snapshot is one pass over the union of their batches where samples do not interact
    (no batch norm, no dropout): the same mathematics in another order of summation, at a fraction of the time.

    Other engines compute ahead of need. For them, ``useful`` holds the (worker, step) whose results will be asked for (None:
    all), and ``averaged`` says that results are asked for by means only, so that nothing is gained by computing one ahead.
    """

    kind = "serial"
    kernel = "loop"

    def __init__(
        self, task: Task, streams: Streams, useful: Useful | None = None, averaged: bool = False
    ) -> None:
        self.task = task
        self.streams = streams
        self.useful = useful
        self.averaged = averaged
        self.computed = 0  # gradients evaluated so far
        self.cancelled = 0  # futures that were cancelled before they were computed

    def submit(
        self, kernel: kernels.Kernel, params: Tensor | None, worker: int, step: int, previous: Future | None = None
    ) -> Future:
        """A pending future for ``kernel`` at the snapshot ``params`` of shape ``(P,)``.

        ``previous`` is the result that the worker delivered last, for a kernel that carries something from round to round.
        """
        carries = getattr(kernel, "carries", False)
        future = Future(self, kernel, params, worker, step, previous=previous if carries else None)
        if not (self.averaged or carries) and (self.useful is None or (worker, step) in self.useful):
            self.expect(future)
        return future

    def mean(self, futures: list[Future]) -> Future:
        """The mean of at least two futures, as a future that is not computed earlier than they would be."""
        return Future(self, futures[0].kernel, None, futures[-1].worker, futures[-1].step, averaged=futures)

    def evaluate(self, future: Future) -> None:
        """Compute a future whose result is asked for."""
        parts = future.averaged
        if parts is None:
            self.compute([future])
        elif self._is_union(parts):
            self.computed += len(parts)
            future.fulfil(self.union(parts))
        else:
            self.gather(parts)
            future.fulfil(_average([part.result() for part in parts]))

    def gather(self, futures: list[Future]) -> None:
        """Compute together those of ``futures`` that are pending gradients. Means among them are computed when they are asked
        for."""
        self.compute([future for future in futures if future.pending and future.averaged is None])

    def compute(self, needed: list[Future]) -> None:
        """Compute pending futures."""
        for future in needed:
            result = future.kernel(self.task, self.streams, future.params, future.worker, future.step, *carried(future))
            self.computed += 1
            future.fulfil(result)

    def union(self, parts: list[Future]) -> Gradient:
        """The mean gradient of parts that share a snapshot, computed over the union of their batches."""
        params = parts[0].params
        assert params is not None, "they are pending"
        return kernels.union_gradient(self.task, params, [(part.worker, part.step) for part in parts])

    def expect(self, future: Future) -> None:
        """Note that a result will be asked for; an engine that computes ahead may begin now."""

    def forget(self, future: Future) -> None:
        """Note that a pending future has been cancelled."""

    def close(self) -> None:
        """End what the engine still does: the run is over."""

    def _is_union(self, parts: list[Future]) -> bool:
        first = parts[0].params
        return self.task.additive and all(
            part.pending and part.params is first and first is not None and getattr(part.kernel, "plain", False) for part in parts
        )


def carried(future: Future) -> tuple[Any, ...]:
    """The additional argument of a kernel that carries something from round to round: what the worker's last result left. Empty
    for others."""
    if not getattr(future.kernel, "carries", False):
        return ()
    return (None if future.previous is None else future.previous.carry,)


def _average(results: list[Gradient]) -> Gradient:
    total = results[0].gradient + results[1].gradient
    for result in results[2:]:
        total.add_(result.gradient)
    found = [result.statistics for result in results if result.statistics is not None]
    statistics = torch.stack(found).mean(0) if found else None
    return Gradient(total.div_(len(results)), torch.stack([result.loss for result in results]).mean(), statistics)
