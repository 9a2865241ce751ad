"""Batches and splits of a data set as tensors on the device."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from asyncsim.streams import Streams
from asyncsim.tasks.data.arrays import Arrays, Part
from asyncsim.tasks.sampling import Recent, Sampler

Samples = tuple[Tensor, Tensor]
"""A set of samples: inputs ``(n, ...)`` and targets ``(n, ...)``."""

Batch = tuple[Any, Tensor]
"""Inputs, mostly a tensor ``(B, ...)``, and targets ``(B, ...)``."""

BLOCKS = 2048
"""The number of blocks of sample numbers that are kept, two for each worker (16 KiB each, and a tensor for each step)."""
CALIBRATION = 8, 128
"""The number and the size of the training batches on which batch statistics are estimated."""


class Source(Protocol):
    """A source of training batches. ``size`` is the number of training samples."""

    size: int
    batch_size: int

    def batch(self, worker: int, step: int) -> Batch: ...

    def calibration(self) -> list[Tensor]:
        """The inputs of a fixed set of training batches."""
        ...


class Batches:
    """Batches of a training set that lies on the device, chosen by a sampler.

    Each batch is a new tensor, so that all batches are aligned in memory in the same way.
    """

    def __init__(self, train: Samples, sampler: Sampler, batch_size: int, streams: Streams) -> None:
        self.inputs, self.targets = train
        self.size = len(self.inputs)
        self.batch_size = batch_size
        self._sampler = sampler
        self.shard_sizes: tuple[int, ...] = getattr(sampler, "shard_sizes", ())
        self._steps = sampler.steps
        self._streams = streams
        self._rows = Recent(self._draw, BLOCKS)

    def batch(self, worker: int, step: int) -> Samples:
        index = self.index(worker, step)
        return self.inputs.index_select(0, index), self.targets.index_select(0, index)

    def index(self, worker: int, step: int) -> Tensor:
        """The numbers of the training samples in a batch, shape ``(B,)``."""
        number, row = divmod(step, self._steps)
        return self._rows(worker, number)[row]

    def calibration(self) -> list[Tensor]:
        number, size = CALIBRATION
        order = self._streams("recalibrate").permutation(self.size)[: number * size]
        index = torch.from_numpy(order).to(self.inputs.device)
        return [self.inputs.index_select(0, part) for part in index.tensor_split(-(-len(order) // size))]

    def _draw(self, worker: int, number: int) -> tuple[Tensor, ...]:
        return torch.from_numpy(self._sampler.block(worker, number)).to(self.inputs.device).unbind(0)


def prepare(arrays: Arrays, validation: float, device: str, dtype: torch.dtype) -> dict[str, Samples]:
    """The splits of ``arrays`` as tensors. They are made once for each data set and settings, and shared by all tasks in this
    process."""
    key = (validation, device, dtype)
    if key not in arrays.prepared:
        arrays.prepared[key] = {name: _samples(arrays, part, device, dtype) for name, part in arrays.split(validation).items()}
    return arrays.prepared[key]


def _samples(arrays: Arrays, part: Part, device: str, dtype: torch.dtype) -> Samples:
    inputs, targets = (_tensor(array) for array in part)
    if arrays.divisor is not None or inputs.is_floating_point():
        inputs = inputs.to(dtype)
        if arrays.divisor is not None and arrays.divisor != 1:
            inputs = inputs / arrays.divisor
        if arrays.mean is not None and arrays.std is not None:
            shape = (-1, *[1] * (inputs.dim() - 2))
            mean, std = (torch.tensor(values, dtype=dtype).reshape(shape) for values in (arrays.mean, arrays.std))
            inputs = (inputs - mean) / std
    targets = targets.to(dtype) if targets.is_floating_point() else targets.long()
    return inputs.to(device), targets.to(device)


def _tensor(array: np.ndarray | Tensor) -> Tensor:
    return array if isinstance(array, Tensor) else torch.from_numpy(array if array.flags.writeable else array.copy())


def stacked(jobs: list[tuple[Source, int, int]]) -> Samples:
    """The batches of several (source, worker, step): inputs ``(W, B, ...)``, targets ``(W, B, ...)``.

    Sources that share their data (replicates of a run do) are read in one go.
    """
    first = jobs[0][0]
    if isinstance(first, Batches):
        shared = [
            (source, worker, step)
            for source, worker, step in jobs
            if isinstance(source, Batches) and source.inputs is first.inputs
        ]
        if len(shared) == len(jobs):
            index = torch.cat([source.index(worker, step) for source, worker, step in shared])
            inputs, targets = first.inputs.index_select(0, index), first.targets.index_select(0, index)
            shape = (len(jobs), first.batch_size)
            return inputs.view(*shape, *inputs.shape[1:]), targets.view(*shape, *targets.shape[1:])
    found = [source.batch(worker, step) for source, worker, step in jobs]
    return torch.stack([inputs for inputs, _ in found]), torch.stack([targets for _, targets in found])
