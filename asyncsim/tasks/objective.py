"""Losses, and the metrics that are measured with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Objective(Protocol):
    """A loss to minimise and the metrics of an evaluation."""

    metrics: tuple[str, ...]

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean over samples, a 0-dimensional tensor."""
        ...

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Sums over samples in float64, the loss first; their means are passed to ``report``."""
        ...

    def report(self, means: list[float]) -> dict[str, float]: ...


class Classification:
    """Cross-entropy in nats of scores ``(B, C)`` against classes ``(B,)``, and the share of right answers."""

    metrics: tuple[str, ...] = ("loss", "accuracy")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets)

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs, targets, reduction="none")
        return torch.stack([losses.double().sum(), (outputs.argmax(1) == targets).sum().double()])

    def report(self, means: list[float]) -> dict[str, float]:
        loss, accuracy = means
        return {"loss": loss, "accuracy": accuracy if math.isfinite(loss) else math.nan}


class NextCharacter:
    """Cross-entropy in nats per character of scores ``(B, ..., V)`` against characters ``(B, ...)``; bits are nats / ln 2."""

    metrics: tuple[str, ...] = ("loss", "bits_per_char")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs.flatten(0, -2), targets.flatten())

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none")
        return (losses.double().sum() * len(targets) / targets.numel()).reshape(1)

    def report(self, means: list[float]) -> dict[str, float]:
        return {"loss": means[0], "bits_per_char": means[0] / math.log(2)}


class Custom:
    """Any function of outputs and targets that is a mean over samples, and other such functions that are measured beside it."""

    def __init__(
        self, loss: Callable[[Tensor, Tensor], Tensor], metrics: Mapping[str, Callable[[Tensor, Tensor], Any]] | None = None
    ) -> None:
        self.loss = loss
        self.metrics: tuple[str, ...] = ("loss", *(metrics or {}))
        self._measured = (loss, *(metrics or {}).values())

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        means = [torch.as_tensor(function(outputs, targets), device=outputs.device) for function in self._measured]
        return torch.stack([mean.double().reshape(()) for mean in means]) * len(targets)

    def report(self, means: list[float]) -> dict[str, float]:
        return dict(zip(self.metrics, means, strict=True))


LINK_METRICS = ("loss", "average_precision", "auc")


def link_metrics(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Binary cross-entropy in nats of scores ``(n,)`` against 1 and 0, the average precision, and the area under the ROC curve;
    NaN where a score is not finite. Equal scores count as one threshold."""
    scores, targets = scores.double().cpu(), targets.double().cpu()
    loss = float(F.binary_cross_entropy_with_logits(scores, targets))
    if not math.isfinite(loss):
        return dict.fromkeys(LINK_METRICS, math.nan)
    values, group = torch.unique(-scores, return_inverse=True)
    hits, there = (scores.new_zeros(len(values)).index_add_(0, group, each) for each in (targets, torch.ones_like(targets)))
    found, misses = hits.cumsum(0), there - hits
    precision = float((hits * found / there.cumsum(0)).sum() / found[-1])
    below = misses.sum() - misses.cumsum(0)
    auc = float((hits * (below + misses / 2)).sum() / (found[-1] * misses.sum()))
    return {"loss": loss, "average_precision": precision, "auc": auc}
