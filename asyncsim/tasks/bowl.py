"""The quadratic task: its function, its noise, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asyncsim.streams import Streams
from asyncsim.tasks.batches import Samples
from asyncsim.tasks.sampling import Recent
from asyncsim.tasks.task import Task, floating

BLOCK = 65_536
"""The number of noise values drawn at a time, at most 64 steps. It is part of the determinism contract: another value gives
other noise."""


class Bowl(nn.Module):
    """``0.5 sum_i h_i x_i^2 + n . x`` for noise ``n`` of shape ``(B, P)``: one value for each sample, ``(B,)``."""

    curvature: Tensor

    def __init__(self, curvature: Tensor, start: Tensor) -> None:
        super().__init__()
        self.x = nn.Parameter(start)
        self.register_buffer("curvature", curvature)

    def forward(self, noise: Tensor) -> Tensor:
        return noise @ self.x + 0.5 * (self.curvature * self.x * self.x).sum()


class Noise:
    """An endless stream: noise ``(B, P)`` of (worker, step), from ``streams("noise", worker, block)``; targets are empty.

    There is no training set; an epoch counts as one batch.
    """

    def __init__(self, dim: int, noise: float, batch: int, streams: Streams, like: Tensor) -> None:
        self.size = batch
        self.batch_size = batch
        self._shape = (batch, dim)
        self._steps = max(1, min(64, BLOCK // (batch * dim)))
        self._noise = noise
        self._streams = streams
        self._like = like
        self._targets = like.new_zeros(batch)
        self._block = Recent(self._draw, 2**22 // (self._steps * batch * dim))

    def batch(self, worker: int, step: int) -> Samples:
        if self._noise == 0:
            return self._like.new_zeros(self._shape), self._targets
        number, row = divmod(step, self._steps)
        return self._block(worker, number)[row].clone(), self._targets

    def calibration(self) -> list[Tensor]:
        return []

    def _draw(self, worker: int, number: int) -> Tensor:
        normal = self._streams("noise", worker, number).standard_normal((self._steps, *self._shape))
        return torch.from_numpy(normal * self._noise).to(self._like)


class Value:
    """The mean of the samples' values. The distance to the optimum is added by the task."""

    metrics: tuple[str, ...] = ("loss", "distance")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.mean()

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.double().sum().reshape(1)

    def report(self, means: list[float]) -> dict[str, float]:
        return {"loss": means[0]}


class BowlTask(Task):
    """The quadratic as a task, which also knows how far away the optimum is."""

    def evaluate(self, params: Tensor, split: str = "test", statistics: Tensor | None = None) -> dict[str, float]:
        measured = super().evaluate(params, split, statistics)
        return {"loss": measured["loss"], "distance": measured.get("distance", float(params.double().norm()))}


def bowl(
    dim: int,
    curvature: float | tuple[float, ...],
    noise: float,
    start: float | tuple[float, ...],
    batch: int,
    seed: int,
    device: str,
    dtype: str,
) -> Task:
    """The quadratic of `asyncsim.tasks.quadratic.Quadratic` in ``dim`` dimensions."""
    empty = torch.empty(dim, device=device, dtype=floating(dtype))
    curvatures, starts = (empty.new_tensor(values).expand(dim).clone() for values in (curvature, start))
    source = Noise(dim, noise, batch, Streams(seed), empty)
    silent = (empty.new_zeros(1, dim), empty.new_zeros(1))
    return BowlTask(Bowl(curvatures, starts), source, Value(), dict.fromkeys(("train", "validation", "test"), silent))
