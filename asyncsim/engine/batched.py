"""The batched engine: when one gradient is needed, pending ones are computed together with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asyncsim.engine.call import Call, batches
from asyncsim.engine.dense import DenseNetwork
from asyncsim.engine.serial import SerialEngine
from asyncsim.engine.vectorised import VectorisedModule
from asyncsim.messages import Future, Gradient

if TYPE_CHECKING:
    from asyncsim.engine.engine import Useful
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class BatchedEngine(SerialEngine):
    """Calls of a fixed ``width``; a call that is not full is padded, and what the padding gives is thrown away.

    Fixed width, aligned rows and ``MKL_CBWR=AUTO`` make a gradient's bits independent of which others are in its call, so of
    the order of events, of other runs in a fleet, and of what was computed before. A flush takes what is needed and as many of
    the oldest pending ones as fill whole calls; the rest stays pending.

    Fully connected classifiers run in closed form (`dense`), other modules under ``vmap``; models with batch norm or dropout, and
    kernels without a batched form, run one by one, in the serial engine's bits. ``kernel`` says which network it is.
    """

    kind = "batched"

    def __init__(
        self,
        task: Task,
        streams: Streams,
        useful: Useful | None = None,
        averaged: bool = False,
        width: int = 8,
    ) -> None:
        super().__init__(task, streams, useful, averaged)
        self.width = width
        self.network = network_of(task)
        self.kernel = "loop" if self.network is None else self.network.kind
        self.pending: dict[Future, None] = {}  # in order of submission
        self.wait: Callable[[list[Future]], None] | None = None  # in a fleet: waits until the other runs wait as well

    def batches(self, future: Future) -> bool:
        """Can this future be computed together with others?"""
        kernel = future.kernel
        return self.network is not None and getattr(kernel, "batched", None) is not None and not kernel.carries

    def expect(self, future: Future) -> None:
        if self.batches(future):
            self.pending[future] = None

    def forget(self, future: Future) -> None:
        self.pending.pop(future, None)

    def compute(self, needed: list[Future]) -> None:
        super().compute([future for future in needed if not self.batches(future)])
        together = [future for future in needed if self.batches(future)]
        if self.wait is not None and together:
            self.wait(together)
        elif together:
            flush(together, list(self.pending), self.width)

    def union(self, parts: list[Future]) -> Gradient:
        if not isinstance(self.network, DenseNetwork):
            return super().union(parts)
        inputs, targets = batches(parts, [part.step for part in parts])
        union = inputs.flatten(0, 1).unsqueeze(0), targets.flatten(0, 1).unsqueeze(0)
        params = parts[0].params
        assert params is not None, "they are pending"
        gradients, losses = self.network.gradients(params.unsqueeze(0), *union)
        return Gradient(gradients[0], losses[0], None)


def network_of(task: Task) -> DenseNetwork | VectorisedModule | None:
    """The object that computes many gradients of a task at once, or None where there is none."""
    if not task.additive:
        return None
    return DenseNetwork.of(task) or VectorisedModule(task)


def flush(needed: list[Future], pending: list[Future], width: int) -> None:
    """Compute all ``needed`` futures, and with them as many of the ``pending`` ones as it takes to fill whole calls."""
    groups: dict[object, list[Future]] = {}
    for future in needed:
        groups.setdefault(_key(future), []).append(future)
    wanted = {id(future) for future in needed}
    for key, futures in groups.items():
        count = len(futures)
        if width > 1:
            futures += [other for other in pending if id(other) not in wanted and _key(other) == key]
            count = max(count, len(futures) // width * width)
        for first in range(0, count, width):
            _compute(futures[first : min(first + width, count)], width)


def _key(future: Future) -> object:
    """A key that is equal for futures which can share a call."""
    engine: Any = future.engine  # a `BatchedEngine`: others have nothing pending
    return engine.network, type(future.kernel), future.kernel.call_key


def _compute(jobs: list[Future], width: int) -> None:
    """Compute up to ``width`` futures that can share a call."""
    padded = jobs + jobs[:1] * (width - len(jobs))
    engine: Any = jobs[0].engine
    gradients, losses = jobs[0].kernel.batched(Call(padded, engine.network))
    size = engine.network.num_parameters
    for job, row, loss in zip(jobs, gradients[:, :size].unbind(0), losses.unbind(0), strict=False):
        engine = job.engine
        engine.computed += 1
        engine.forget(job)
        job.fulfil(Gradient(row, loss, None))
