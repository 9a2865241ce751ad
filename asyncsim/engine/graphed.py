"""Record one gradient as a CUDA graph and replay it for every snapshot: for small models on a GPU, where starting single
operations would take most of the time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from asyncsim.engine import kernels
from asyncsim.engine.serial import SerialEngine
from asyncsim.messages import Future, Gradient

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.engine import Useful
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task

WARM_UP = 3  # runs before the capture, on a stream of their own, as CUDA graphs want it


class GraphedEngine(SerialEngine):
    """Copies parameters, inputs and targets into fixed buffers, and replays one recorded gradient.

    The recorded operations are those of the serial engine. Without CUDA the same code runs on the same buffers, without a
    graph. Gradients with dropout masks, and kernels that are not plain gradients, are computed as the serial engine does.
    """

    kind = "graphed"

    def __init__(
        self, task: Task, streams: Streams, useful: Useful | None = None, averaged: bool = False
    ) -> None:
        super().__init__(task, streams, useful, averaged)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._buffers: tuple[Tensor, Tensor, Tensor] | None = None  # parameters (P,), inputs (B, ...), targets (B, ...)
        self._recorded: Gradient | None = None
        self.kernel = "loop" if task.has_masks else "graph" if task.parameters[0].is_cuda else "static"

    def compute(self, needed: list[Future]) -> None:
        for future in needed:
            if not getattr(future.kernel, "plain", False) or self.task.has_masks:
                super().compute([future])
                continue
            self.computed += 1
            params = future.params
            assert params is not None, "it is pending"
            future.fulfil(self._replay(params, *self.task.batch(future.worker, future.step)))

    def _replay(self, params: Tensor, inputs: Tensor, targets: Tensor) -> Gradient:
        buffers = self._buffers
        if buffers is None:
            buffers = self._buffers = params.clone(), inputs.clone(), targets.clone()
            if params.is_cuda:
                self._record(buffers)
        for buffer, value in zip(buffers, (params, inputs, targets), strict=True):
            buffer.copy_(value)
        if self._graph is None or self._recorded is None:
            return kernels.batch_gradient(self.task, *buffers)
        self._graph.replay()
        gradient, loss, statistics, _ = self._recorded
        return Gradient(gradient.clone(), loss.clone(), None if statistics is None else statistics.clone())

    def _record(self, buffers: tuple[Tensor, Tensor, Tensor]) -> None:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                kernels.batch_gradient(self.task, *buffers)
        torch.cuda.current_stream().wait_stream(side)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._recorded = kernels.batch_gradient(self.task, *buffers)
