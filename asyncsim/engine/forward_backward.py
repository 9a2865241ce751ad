"""The forward and backward passes of one stage, computed when their results are needed.

A backward pass uses the graph of its forward pass, so a batch costs one forward and one backward pass in all, as in training
without a simulator. The parameters are the leaves of that graph. With stashed parameters they are the snapshot itself. With
current ones they are a copy that is overwritten before the backward pass, so that the activations are old and the parameters
new, as in the public code of FDG, ADL and DDG, which changes parameters in place while the graph exists.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asyncsim.engine.kernels import Kernel, flattened
from asyncsim.messages import Future, Gradient

if TYPE_CHECKING:
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task

Signals = dict[tuple[int, int], Tensor]
"""Error signals that have been computed and not been used yet, by worker and batch."""


class Source:
    """A batch, or one of its equal parts, on its way through the stages."""

    def __init__(self, member: int, batch: int, parts: int) -> None:
        self.member = member
        self.batch = batch
        self.parts = parts
        self._samples: tuple[Tensor, Tensor] | None = None

    def samples(self, task: Task) -> tuple[Tensor, Tensor]:
        """The inputs and the targets."""
        if self._samples is None:
            step, part = divmod(self.batch, self.parts)
            inputs, targets = task.batch(self.member, step)
            self._samples = inputs.chunk(self.parts)[part], targets.chunk(self.parts)[part]
        return self._samples


class Forward:
    """The activation of one stage for one batch at one snapshot; ``params`` has shape ``(P_k,)``, None: it is over."""

    def __init__(
        self, stage: int, member: int, batch: int, parts: int, params: Tensor | None, below: Forward | None, copy: bool
    ) -> None:
        self.stage = stage
        self.member = member
        self.batch = batch
        self.params = params
        self.below = below
        self.copy = copy  # the parameters of the graph will be overwritten
        self.source: Source = below.source if below is not None else Source(member, batch, parts)
        self.input: Tensor | None = None  # a leaf of the graph where a stage lies below
        self.output: Tensor | None = None  # with its graph
        self.statistics: Tensor | None = None
        self.leaves: list[Tensor] = []

    def run(self, task: Task, streams: Streams) -> Tensor:
        """Compute the activation, unless that has been done."""
        output = self.output
        if output is None:
            if self.below is None:
                inputs = self.source.samples(task)[0]
            else:
                inputs = self.below.run(task, streams).detach().requires_grad_()
            params = self.params
            assert params is not None, "it is not over"
            output = self._run(task, streams, params.clone() if self.copy else params, inputs)
            self.below = None
        return output

    def again(self, task: Task, streams: Streams, params: Tensor) -> Forward:
        """A new forward pass from the same input with other parameters. This one is kept, as the stage above may still need it.
        """
        self.run(task, streams)
        assert self.input is not None, "it has run"
        anew = copy.copy(self)
        anew._run(task, streams, params, self.input.detach().requires_grad_(self.input.requires_grad))
        return anew

    def _run(self, task: Task, streams: Streams, params: Tensor, inputs: Tensor) -> Tensor:
        self.input = inputs
        if task.has_masks:
            task.seed_masks(streams.integer("dropout", self.member, self.batch, self.stage))
        stage = task.stages[self.stage]
        self.leaves = stage.leaves(params)
        # A layer may write into what it is handed; a batch is forwarded again when it is replayed.
        output = self.output = stage.forward(self.leaves, inputs if self.stage else inputs.clone())
        self.statistics = stage.read_statistics()
        return output


class Backward(Kernel):
    """A kernel: gradient ``(P_k,)`` of a stage for one batch, and the error signal for the stage below.

    ``key`` is worker and batch. ``upper`` gives the error signal from above; None at the last stage, which starts from the loss.
    ``answers``: the stage below asks for its error signal. ``late`` are parameters ``(P_k,)`` to use in place of those of the
    forward pass; ``replay``: in a new forward pass. An error signal stays in ``signals`` until the stage below uses it, which may
    be long after this gradient was applied.
    """

    def __init__(
        self,
        key: tuple[int, int],
        forward: Forward,
        upper: Backward | None,
        shrink: float,
        late: Tensor | None,
        replay: bool,
        signals: Signals,
        answers: bool = True,
    ) -> None:
        self.key = key
        self.forward: Forward | None = forward
        self.upper = upper
        self.shrink = shrink
        self.late = late
        self.replay = replay
        self.signals = signals
        self.stage = forward.stage
        self.answers = answers
        self.computed: Gradient | None = None
        self.future: Future | None = None  # the future of this gradient, if its result will be asked for

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
        result, self.computed = self.run(task, streams), None  # the future keeps it from here on
        return result

    def error(self, task: Task, streams: Streams) -> Tensor:
        """The error signal for the stage below. It is handed out once."""
        if self.key not in self.signals:
            if self.future is not None and self.future.pending:
                self.future.result()  # so that a checkpoint finds the gradient done, as its inputs may be gone by then
            else:
                self.run(task, streams)
        return self.signals.pop(self.key)

    def run(self, task: Task, streams: Streams) -> Gradient:
        """Compute the gradient and the error signal, unless that has been done."""
        if self.computed is not None:
            return self.computed
        forward = self.forward
        assert forward is not None, "it has not been computed"
        output = forward.run(task, streams)
        if self.late is not None and self.replay:
            forward = forward.again(task, streams, self.late)
            output = forward.run(task, streams)
        elif self.late is not None:
            for leaf, value in zip(forward.leaves, task.stages[self.stage].views(self.late), strict=True):
                leaf.data.copy_(value)  # within the graph, whose version counters do not notice
        inner = self.stage > 0 and self.answers
        wanted = list(forward.leaves)
        if inner:
            assert forward.input is not None, "it has run"
            wanted.append(forward.input)
        if self.upper is None:
            loss = task.loss(output, forward.source.samples(task)[1])
            parts = torch.autograd.grad(loss, wanted)
        else:
            signal = self.upper.error(task, streams)
            loss = torch.full((), torch.nan, device=output.device, dtype=output.dtype)
            parts = torch.autograd.grad(output, wanted, signal if self.shrink == 1.0 else signal * self.shrink)
        if inner:
            parts, self.signals[self.key] = parts[:-1], parts[-1]
        self.computed = Gradient(flattened(parts), loss.detach(), forward.statistics)
        self.forward = self.upper = self.late = self.future = None
        return self.computed
