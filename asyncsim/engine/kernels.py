"""Pure functions from parameters and a batch to a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from asyncsim.engine.futures import Gradient

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class Kernel(Protocol):
    """``kernel(task, streams, params (P,), worker, step)``: a function of its arguments and nothing else."""

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient: ...


def gradient(task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
    """The gradient of the mean loss of the batch of (worker, step), shape ``(P,)``."""
    inputs, targets = task.batch(worker, step)
    if task.has_masks:
        task.seed_masks(streams.integer("dropout", worker, step))
    return batch_gradient(task, params, inputs, targets)


def batch_gradient(task: Task, params: Tensor, inputs: Tensor, targets: Tensor) -> Gradient:
    """The gradient of the mean loss of a given batch."""
    task.bind(params)
    loss = task.loss(task.module(inputs), targets)
    parts = torch.autograd.grad(loss, task.parameters)
    flat = torch.cat([part.reshape(-1) for part in parts])
    return Gradient(flat, loss.detach(), task.read_statistics())


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
    total = parts[0].gradient * shares[0]
    for part, share in zip(parts[1:], shares[1:], strict=True):
        total.add_(part.gradient, alpha=share)
    return Gradient(total, sum(part.loss * share for part, share in zip(parts, shares, strict=True)), None)


@dataclass(frozen=True)
class LocalSteps:
    """``steps`` SGD steps on the worker; the result is the pseudo-gradient ``s - x_local``, shape ``(P,)``.

    Heavy-ball momentum starts from zero in every round (Lin et al. 2020, local momentum reset).
    """

    steps: int
    lr: float
    momentum: float = 0.0

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
        local, velocity = params, None
        losses, statistics = [], None
        for index in range(step * self.steps, (step + 1) * self.steps):
            result = gradient(task, streams, local, worker, index)
            if self.momentum:
                velocity = result.gradient if velocity is None else velocity * self.momentum + result.gradient
                local = local.add(velocity, alpha=-self.lr)
            else:
                local = local.add(result.gradient, alpha=-self.lr)
            losses.append(result.loss)
            statistics = result.statistics
        return Gradient(params - local, torch.stack(losses).mean(), statistics)


def steps_of(kernel: Kernel) -> tuple[int, float] | None:
    """Number of local steps and momentum of a kernel, None for a plain gradient: kernels that agree can share a call."""
    return (kernel.steps, kernel.momentum) if isinstance(kernel, LocalSteps) else None
