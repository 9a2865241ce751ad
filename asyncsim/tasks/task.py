"""A task that computes: module, data and loss behind a flat parameter vector.

A task of your own, in a notebook::

    import torch
    from asyncsim.tasks import Task
    from torch import nn

    X, y = torch.randn(80, 2), torch.arange(80) % 3
    task = Task.from_module(nn.Linear(2, 3), train=(X[:60], y[:60]), test=(X[60:], y[60:]), batch=16)
    print(task.evaluate(task.init()))

or by name in scenarios, as a settings class (`asyncsim.tasks.data_task` has an example).

**Batch norm.** A gradient always uses the statistics of its own batch, so it is a function of parameters and batch; no
worker has running statistics to send or to be stale. What evaluation uses is chosen by ``batch_norm``:

- ``recalibrate``: statistics are estimated anew at the evaluated parameters, as the mean of batch statistics over a fixed
  set of about a thousand training samples ("precise batch norm", Wu & Johnson 2021, https://arxiv.org/abs/2105.07576).
- ``running``: the server keeps an exponential average of the statistics that come with gradients, in order of arrival
  (``average_statistics``, momentum 0.1, from mean 0 and variance 1), and hands it to ``evaluate``.

Differs from the paper in averaging batch variances as they are, without the variance of the batch means.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from asyncsim.ambient import sheltered
from asyncsim.errors import UserError, nearest
from asyncsim.streams import Streams
from asyncsim.tasks.batches import Batch, Batches, Samples, Source, prepare
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.dropout import Dropout
from asyncsim.tasks.layout import Layout, trained
from asyncsim.tasks.objective import Classification, Custom, Objective, Ranked
from asyncsim.tasks.partition import Partition, Shuffled
from asyncsim.tasks.stages import StageModule
from asyncsim.tasks.statistics import Statistics, size_of_statistics

BatchNorm = Literal["recalibrate", "running"]

MOMENTUM = 0.1
"""The weight of a new batch in the running statistics; PyTorch's default."""
CHUNK_NUMBERS = 2**20
"""The number of input numbers in one pass of an evaluation, which takes at most 1,000 samples."""
CHUNK_SCORES = 2**26
"""The number of scores in one pass, where a sample has several targets: a vocabulary times a context is much."""


class Task:
    """Module, data and loss. Everything it does is a function of the seed and its arguments; the global generator is not used.

    The module belongs to the task: its parameters are pointed at pieces of whatever vector was bound last, and its
    batch-norm and dropout layers are taken over. Vectors have shape ``(P,)``, statistics ``(B,)``.
    """

    remembers: ClassVar[bool] = False
    """Is something remembered beside the parameters, which whoever computes hands in (as for ``LinkTask``)?"""

    def __init__(
        self,
        module: nn.Module,
        source: Source,
        objective: Objective,
        splits: dict[str, Samples],
        *,
        batch_norm: BatchNorm = "recalibrate",
    ) -> None:
        self.module = module.train()
        self.source = source
        self.objective = objective
        self.splits = splits
        self.batch_norm = batch_norm
        self.metrics = objective.metrics
        self.batch_size = source.batch_size
        self.train_size = source.size
        self.stages: list[StageModule] = []
        self._adopt()
        self._initial = torch.cat([parameter.detach().reshape(-1) for parameter in self.parameters])

    @classmethod
    @sheltered()
    def from_module(
        cls,
        module: nn.Module,
        train: tuple[Any, Any],
        test: tuple[Any, Any],
        validation: tuple[Any, Any] | None = None,
        *,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        batch: int = 32,
        seed: int = 0,
        partition: Partition | None = None,
        num_workers: int = 1,
        batch_norm: BatchNorm = "recalibrate",
        device: str = "cpu",
        dtype: str = "float32",
    ) -> Task:
        """A task from a module and arrays or tensors ``(X, y)``; the module is copied, its values are the initial parameters.

        ``loss(outputs, targets)`` is a mean over samples; without it, classification by cross-entropy.
        UserError where the module or the data do not fit.
        """
        arrays = Arrays(_tensors(train), _tensors(test), labels=loss is None)
        torch_dtype = floating(dtype)
        splits = dict(prepare(arrays, 0, device, torch_dtype))
        if validation is not None:
            splits |= {"validation": prepare(Arrays(validation, validation), 0, device, torch_dtype)["train"]}
        streams = Streams(seed)
        labels = splits["train"][1].cpu().numpy() if loss is None else None
        sampler = (partition or Shuffled()).sampler(len(splits["train"][0]), labels, batch, num_workers, streams)
        source = Batches(splits["train"], sampler, batch, streams)
        objective: Objective = Classification() if loss is None else Custom(loss)
        return cls(copy.deepcopy(module).to(device, torch_dtype), source, objective, splits, batch_norm=batch_norm)

    @property
    def shard_sizes(self) -> tuple[int, ...]:
        """Training samples of each worker; empty where workers have no shards of their own."""
        return getattr(self.source, "shard_sizes", ())

    def replica(self) -> Task:
        """The same task with a module of its own, for use in another thread. Data and batches are shared."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module, {id(self._masks): self._masks})
        other._adopt()
        return other

    def init(self) -> Tensor:
        """The initial parameters ``(P,)``; a new vector each time."""
        return self._initial.clone()

    def bind(self, params: Tensor) -> None:
        """Point the module's parameters at pieces of ``params``. Nothing is copied, and ``params`` is never written to."""
        # One call for all views: half the time of split and view, in a place where microseconds count.
        for parameter, view in zip(self.parameters, _unflatten_dense_tensors(params, self.parameters), strict=True):
            parameter.data = view

    def split(self, layers: Sequence[int]) -> None:
        """Cut the module into ``stages``, given as the number of its layers (entries of an ``nn.Sequential``) in each. Without
        any, the whole module is one stage."""
        if not layers:
            self.stages = [StageModule(self.module, 0, slice(0, self.statistics_size), self._statistics)]
            return
        self.stages = []
        first_layer = first_parameter = first_statistic = 0
        assert isinstance(self.module, nn.Sequential)
        for count in layers:
            piece = self.module[first_layer : first_layer + count]
            statistics = slice(first_statistic, first_statistic + size_of_statistics(piece))
            self.stages.append(StageModule(piece, first_parameter, statistics, self._statistics))
            first_layer, first_parameter, first_statistic = first_layer + count, self.stages[-1].parameters.stop, statistics.stop

    def join(self, pieces: list[Tensor]) -> Tensor:
        """The vector of the whole model, from one vector for each stage."""
        return torch.cat(pieces)

    def batch(self, worker: int, step: int) -> Batch:
        """The inputs and targets of a batch, ``(B, ...)`` each: a function of (seed, worker, step), in new tensors."""
        return self.source.batch(worker, step)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of a batch, 0-d."""
        return self.objective.loss(outputs, targets)

    def seed_masks(self, key: int) -> None:
        """Make the dropout masks of the next forward pass a function of ``key``."""
        self._masks.manual_seed(key & (2**63 - 1))

    def evaluate(self, params: Tensor, split: str = "test", statistics: Tensor | None = None) -> dict[str, float]:
        """Metrics of ``params`` on a split (test, validation, train); NaN where parameters are not finite.

        ``statistics`` replaces what ``batch_norm`` says for batch-norm layers. UserError for a split that is not there.
        """
        if split not in self.splits:
            why = "; set `task.validation` above 0" if split == "validation" else nearest(split, self.splits)
            raise UserError(f"this task has no {split!r} split, only {', '.join(self.splits)}{why}")
        return self._evaluate(params, self.splits[split], statistics)

    def accuracy(self, params: Tensor, step: int) -> float:
        """The share of right answers on the batch of a step, the same for all workers; 0 at parameters that are not finite."""
        return max(0.0, self._evaluate(params, self.batch(0, step), None)["accuracy"])

    def _evaluate(self, params: Tensor, samples: Samples, statistics: Tensor | None) -> dict[str, float]:
        if not bool(torch.isfinite(params).all()):
            return dict.fromkeys(self.metrics, math.nan)
        if self.statistics_size:
            if statistics is None:
                statistics = self.recalibrate(params) if self.batch_norm == "recalibrate" else self._statistics.unseen
            self._statistics.load(statistics)
        self.bind(params)
        self.module.eval()
        try:
            with torch.no_grad():
                return self._measure(*samples)
        finally:
            self.module.train()

    def read_statistics(self) -> Tensor | None:
        """The batch statistics ``(B,)`` of the last forward in training mode, a copy; None without batch norm."""
        return self._statistics.read() if self.statistics_size else None

    def load_statistics(self, vector: Tensor) -> None:
        """Set the statistics ``(B,)`` that forward passes in evaluation mode use."""
        self._statistics.load(vector)

    def init_statistics(self) -> Tensor | None:
        """The running statistics at the start: mean 0, variance 1."""
        return self._statistics.unseen if self.statistics_size else None

    def average_statistics(self, running: Tensor, arrived: Tensor) -> Tensor:
        """The running statistics after a batch: ``0.9 running + 0.1 arrived``, a new vector."""
        return torch.lerp(running, arrived, MOMENTUM)

    def recalibrate(self, params: Tensor) -> Tensor:
        """The mean batch statistics ``(B,)`` at ``params`` over a fixed set of training batches. They are empty without batch
        norm."""
        self.bind(params)
        self.seed_masks(0)
        total = torch.zeros_like(self._statistics.unseen)
        batches = self.source.calibration() if self.statistics_size else []
        with torch.no_grad():
            for inputs in batches:
                self.module(inputs)
                total += self._statistics.read()
        return total.div_(max(1, len(batches)))

    def _measure(self, inputs: Tensor, targets: Tensor) -> dict[str, float]:
        chunk = max(1, min(1000, CHUNK_NUMBERS // max(1, inputs[0].numel())))
        if targets.dim() > 1:
            chunk = max(1, min(chunk, CHUNK_SCORES // self.module(inputs[:1].clone()).numel()))
        parts = zip(inputs.split(chunk), targets.split(chunk), strict=True)
        ranked = self.objective if isinstance(self.objective, Ranked) else None
        sums, kept = [], []
        for x, t in parts:
            outputs = self.module(x.clone())  # a layer may write into what it is handed, and the samples are needed again
            sums.append(self.objective.measure(outputs, t))
            kept += [outputs] if ranked else []
        measured = self.objective.report((torch.stack(sums).sum(0) / len(inputs)).tolist())
        return measured | (ranked.rank(torch.cat(kept), targets) if ranked else {})

    def _adopt(self) -> None:
        """Take over ``self.module``: its parameters, batch-norm and dropout layers."""
        layers = list(self.module.modules())
        for name, layer in self.module.named_modules():
            if isinstance(layer, _DropoutNd) and layer.p > 0:
                raise UserError(
                    f"layer {name!r} is {layer}, whose masks come from torch's global generator; "
                    "use asyncsim.tasks.dropout.Dropout"
                )
        self.layout = Layout.of(self.module)
        self.parameters = [parameter for _, parameter in trained(self.module)]
        if not self.parameters:
            frozen = " (all are frozen: none requires gradients)" if list(self.module.parameters()) else ""
            raise UserError(f"the module has no parameters to train{frozen}")
        self._statistics = Statistics(self.module)
        self.statistics_size = self._statistics.size
        self._masks = torch.Generator(device=self.parameters[0].device)
        masked = [layer for layer in layers if isinstance(layer, Dropout)]
        for layer in masked:
            layer.generator = self._masks
        self.has_masks = any(layer.p > 0 for layer in masked)
        self.additive = not self.has_masks and not any(isinstance(layer, _BatchNorm) for layer in layers)


def _tensors(part: tuple[Any, Any]) -> tuple[Tensor, Tensor]:
    inputs, targets = part
    return torch.as_tensor(inputs), torch.as_tensor(targets)


def floating(dtype: str) -> torch.dtype:
    """The torch type that ``float32`` or ``float64`` names. Raises ``UserError`` for another name."""
    if dtype not in ("float32", "float64"):
        raise UserError(f"dtype {dtype!r} is not allowed{nearest(dtype, ('float32', 'float64'))}; allowed: float32, float64")
    return getattr(torch, dtype)
