"""Kernels: pure functions from parameters and batches to a gradient. Each says itself how several of its results are computed
together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch._utils import _flatten_dense_tensors

from asyncsim.messages import Gradient

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.call import Call
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class Kernel:
    """What a worker computes on its snapshot: ``kernel(task, streams, params, worker, step)``, a function of its arguments only.

    A subclass defines ``__call__``, and that is enough: every engine computes it, one call at a time. More may be added where it
    is true; a subclass that defines ``__call__`` anew inherits neither ``batched`` nor ``plain``, which were said of another
    function.

    * ``batched(call)`` computes several results together. It returns the gradients, shape ``(W, P)`` or wider, and the losses,
      shape ``(W,)``, of the ``W`` jobs of the ``Call``, and must agree with ``__call__`` within rounding. Kernels of one class
      with equal ``call_key`` share a call; by default those that are equal.
    * ``carries`` says that a worker takes something from round to round: an inner optimiser's state, a replica of its own. Then
      the call has one argument more, ``carry``: what ``Gradient.carry`` was of the result that the worker delivered last, None
      in its first round and after it has been down. Such results are computed one by one.
    * ``plain`` says that the result is the gradient of the mean loss of the one batch of (worker, step). Then the mean of
      several results on one snapshot may be computed in one pass over the union of their batches.
    """

    carries: ClassVar[bool] = False
    batched: Callable[[Call], tuple[Tensor, Tensor]] | None = None
    plain: ClassVar[bool] = False

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if "__call__" in vars(cls):
            for name in ("batched", "plain"):
                if name not in vars(cls):
                    setattr(cls, name, vars(Kernel)[name])

    @property
    def call_key(self) -> Hashable:
        """A key of this kernel: kernels of one class with equal keys can be computed in one call of ``batched``."""
        return self

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
        """The result at ``params``, shape ``(P,)``, for the batch or batches that (worker, step) stands for."""
        raise NotImplementedError


class BatchGradient(Kernel):
    """The gradient of the mean loss of the batch of (worker, step), shape ``(P,)``."""

    plain = True

    @property
    def call_key(self) -> Hashable:
        return None

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
        inputs, targets = task.batch(worker, step)
        if task.has_masks:
            task.seed_masks(streams.integer("dropout", worker, step))
        return batch_gradient(task, params, inputs, targets)

    def batched(self, call: Call) -> tuple[Tensor, Tensor]:
        return call.gradients(call.params, [job.step for job in call.jobs])


gradient = BatchGradient()
"""The kernel of data-parallel SGD."""


def batch_gradient(task: Task, params: Tensor, inputs: Tensor, targets: Tensor) -> Gradient:
    """The gradient of the mean loss of a given batch."""
    task.bind(params)
    loss = task.loss(task.module(inputs), targets)
    parts = torch.autograd.grad(loss, task.parameters, None if loss.ndim else _one(loss.dtype, loss.device))
    return Gradient(flattened(parts), loss.detach(), task.read_statistics())


@lru_cache(maxsize=8)
def _one(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The gradient of a loss with respect to itself. PyTorch would make one in every call."""
    return torch.ones((), dtype=dtype, device=device)


def flattened(parts: Sequence[Tensor]) -> Tensor:
    """The elements of all ``parts`` in order, in a new vector of shape ``(P,)``."""
    return _flatten_dense_tensors(parts) if len(parts) > 1 else parts[0].flatten().clone()


def union_gradient(task: Task, params: Tensor, members: list[tuple[int, int]], most: int = 1024) -> Gradient:
    """The mean gradient of the batches of ``members`` (worker, step) at one snapshot, in passes of at most ``most`` samples.

    Only for additive tasks (no batch norm, no masks): there the mean of the gradients is the gradient of the union.
    """
    passes = union_passes(task, members, most)
    return union_mean([pass_gradient(task, params, each) for each in passes], [len(each) for each in passes])


def union_passes(task: Task, members: list[tuple[int, int]], most: int = 1024) -> list[list[tuple[int, int]]]:
    """``members`` in passes of at most ``most`` samples; the last may be smaller."""
    each = max(1, most // task.batch_size)
    return [members[first : first + each] for first in range(0, len(members), each)]


def pass_gradient(task: Task, params: Tensor, members: list[tuple[int, int]]) -> Gradient:
    """One pass: the gradient of the mean loss over the union of the batches of ``members``."""
    inputs, targets = (torch.cat(tensors) for tensors in zip(*(task.batch(*member) for member in members), strict=True))
    return batch_gradient(task, params, inputs, targets)


def union_mean(parts: list[Gradient], sizes: list[int]) -> Gradient:
    """The mean of passes, weighted by their sizes, summed in order."""
    if len(parts) == 1:
        return parts[0]
    shares = [size / sum(sizes) for size in sizes]
    total, loss = parts[0].gradient * shares[0], 0 + parts[0].loss * shares[0]
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total.add_(part.gradient, alpha=share)
        loss = loss + part.loss * share
    return Gradient(total, loss, None)


@dataclass(frozen=True)
class LocalSteps(Kernel):
    """``steps`` SGD steps on the worker; the result is the pseudo-gradient ``s - x_local``, shape ``(P,)``.

    Heavy-ball momentum starts from zero in every round (Lin et al. 2020, local momentum reset). ``first``: the first of its
    batches, where rounds have unequal numbers of them.
    """

    steps: int
    lr: float
    momentum: float = 0.0
    first: int | None = None

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
        local, velocity = params, None
        losses, statistics = [], None
        first = self.first_batch(step)
        for index in range(first, first + self.steps):
            result = gradient(task, streams, local, worker, index)
            if self.momentum:
                velocity = result.gradient if velocity is None else velocity * self.momentum + result.gradient
                local = local.add(velocity, alpha=-self.lr)
            else:
                local = local.add(result.gradient, alpha=-self.lr)
            losses.append(result.loss)
            statistics = result.statistics
        return Gradient(params - local, torch.stack(losses).mean(), statistics)

    def first_batch(self, step: int) -> int:
        """The first batch of a round."""
        return step * self.steps if self.first is None else self.first

    @property
    def call_key(self) -> Hashable:
        return self.steps, self.momentum

    def batched(self, call: Call) -> tuple[Tensor, Tensor]:
        """The local steps of all jobs of a call together, in ``steps`` passes. Each job has a learning rate of its own."""
        lr = torch.tensor([job.kernel.lr for job in call.jobs], dtype=call.params.dtype, device=call.params.device).unsqueeze(1)
        local, velocity, total = call.params, None, None
        for index in range(self.steps):
            gradients, losses = call.gradients(local, [job.kernel.first_batch(job.step) + index for job in call.jobs])
            velocity = gradients if velocity is None or not self.momentum else velocity * self.momentum + gradients
            local = local - lr * velocity
            total = losses if total is None else total + losses
        assert total is not None, "there is a step at least"
        return call.params - local, total / self.steps
