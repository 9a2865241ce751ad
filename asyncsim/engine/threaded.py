"""The threaded engine: gradients are computed by a pool of threads, each begun when its snapshot is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future as PoolFuture
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from asyncsim.engine import kernels
from asyncsim.engine.serial import SerialEngine, carried
from asyncsim.messages import Future, Gradient

if TYPE_CHECKING:
    from asyncsim.engine.engine import Useful
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class ThreadedEngine(SerialEngine):
    """Each gradient is one thread's work on a module of its own, with one intra-op thread: the serial engine's bits.

    Pays for gradients of about a millisecond and more; smaller ones lose to Python's global lock.
    """

    kind = "threaded"

    def __init__(
        self,
        task: Task,
        streams: Streams,
        useful: Useful | None = None,
        averaged: bool = False,
        cores: int = 2,
    ) -> None:
        super().__init__(task, streams, useful, averaged)
        self.cores = cores
        self._tasks = deque(task.replica() for _ in range(cores))
        self._pool = ThreadPoolExecutor(cores, "gradient", initializer=torch.set_num_threads, initargs=(1,))
        self._running: dict[Future, PoolFuture[Gradient]] = {}

    def expect(self, future: Future) -> None:
        self._running[future] = self._begin(future)

    def forget(self, future: Future) -> None:
        """Drop a cancelled future: it is not begun any more. If it has begun, its result is thrown away, and counted as
        computed."""
        running = self._running.pop(future, None)
        if running is not None and not running.cancel():
            self.computed += 1

    def compute(self, needed: list[Future]) -> None:
        together = set(needed)
        behind = [future for future in needed if future.previous in together]
        if behind:  # each begins with what one of the others leaves
            self.compute([future for future in needed if future.previous not in together])
            self.compute(behind)
            return
        begun = [self._running.pop(future, None) for future in needed]
        running = [self._begin(future) if each is None else each for future, each in zip(needed, begun, strict=True)]
        for future, result in zip(needed, running, strict=True):
            self.computed += 1
            future.fulfil(result.result())

    def union(self, parts: list[Future]) -> Gradient:
        params = parts[0].params
        passes = kernels.union_passes(self.task, [(part.worker, part.step) for part in parts])
        running = [self._on_pool(kernels.pass_gradient, params, members) for members in passes]
        return kernels.union_mean([result.result() for result in running], [len(members) for members in passes])

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _begin(self, future: Future) -> PoolFuture[Gradient]:
        return self._on_pool(future.kernel, self.streams, future.params, future.worker, future.step, *carried(future))

    def _on_pool(self, function: Callable[..., Gradient], *arguments: Any) -> PoolFuture[Gradient]:
        """Call ``function(task, *arguments)`` on a thread, with a task that no other thread uses meanwhile."""

        def work() -> Gradient:
            task = self._tasks.pop()
            try:
                return function(task, *arguments)
            finally:
                self._tasks.append(task)

        return self._pool.submit(work)
