"""Batch statistics: the means and variances that BatchNorm layers need at evaluation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def batch_norms(module: nn.Module) -> list[_BatchNorm]:
    """The layers that keep statistics, in order."""
    return [layer for layer in module.modules() if isinstance(layer, _BatchNorm) and layer.running_mean is not None]


def size_of_statistics(module: nn.Module) -> int:
    """The number B of a module's batch statistics."""
    return sum(2 * layer.num_features for layer in batch_norms(module))


class Statistics:
    """The means and variances of a module's batch-norm layers as one flat vector ``(B,)``: mean, variance, layer by layer.

    The layers' running buffers become views of the vector and their momentum 1, so a forward in training mode leaves the
    statistics of exactly its own batch there (variances unbiased, as PyTorch keeps them). The gradient never sees them.
    """

    def __init__(self, module: nn.Module) -> None:
        layers = batch_norms(module)
        self.size = size_of_statistics(module)
        kept = [layer.running_mean for layer in layers if layer.running_mean is not None]
        like = kept[0] if kept else torch.empty(0)
        self._flat = torch.empty(self.size, dtype=like.dtype, device=like.device)
        pieces = iter(self._flat.split([layer.num_features for layer in layers for _ in range(2)]))
        for layer in layers:
            layer.momentum = 1.0
            layer.num_batches_tracked = None
            layer.running_mean, layer.running_var = next(pieces), next(pieces)
        self.load(self.initial(layers))
        self._initial = self.read()

    @staticmethod
    def initial(layers: list[_BatchNorm]) -> Tensor:
        """Mean 0 and variance 1 everywhere, as in a layer that has seen nothing."""
        halves = [half for layer in layers for half in (torch.zeros(layer.num_features), torch.ones(layer.num_features))]
        return torch.cat(halves) if halves else torch.empty(0)

    @property
    def unseen(self) -> Tensor:
        return self._initial.clone()

    def read(self) -> Tensor:
        """The statistics as a new vector, ``(B,)``."""
        return self._flat.clone()

    def load(self, vector: Tensor) -> None:
        self._flat.data.copy_(vector)  # unseen by graphs that still live; in training mode their backward passes do not use it
