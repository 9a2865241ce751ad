"""Losses, and the metrics that are measured with them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class Ranked(Protocol):
    """An objective with metrics that are no means over samples."""

    def rank(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics of all samples of a split together, from their outputs and targets."""
        ...


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


class NextToken(NextCharacter):
    """The same in nats per token; the perplexity is ``exp`` of the mean over all tokens of a split."""

    metrics: tuple[str, ...] = ("loss", "perplexity")

    def report(self, means: list[float]) -> dict[str, float]:
        return {"loss": means[0], "perplexity": math.exp(means[0]) if means[0] < 700 else means[0] + math.inf}


class Clicks:
    """Binary cross-entropy in nats of scores ``(B,)``, the logits of a click, against clicks ``(B,)``, 0 or 1; and ``auc``, the
    area under the ROC curve: how often a click has a higher score than what is none, ties counting one half."""

    metrics: tuple[str, ...] = ("loss", "auc")

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype))

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(outputs, targets.to(outputs.dtype), reduction="none")
        return losses.double().sum().reshape(1)

    def report(self, means: list[float]) -> dict[str, float]:
        return {"loss": means[0]}

    def rank(self, outputs: Tensor, targets: Tensor) -> dict[str, float]:
        """``(R - P (P + 1) / 2) / (P N)`` for the sum R of the ranks of P clicks among N others (Mann and Whitney); NaN where
        P or N is 0, or a score is not finite."""
        clicks = targets > 0
        pairs = int(clicks.sum()) * int((~clicks).sum())
        if not pairs or not bool(torch.isfinite(outputs).all()):
            return {"auc": math.nan}
        _, place, counts = torch.unique(outputs, return_inverse=True, return_counts=True)
        ranks = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[place]
        count = int(clicks.sum())
        return {"auc": (float(ranks[clicks].sum()) - count * (count + 1) / 2) / pairs}


class Custom:
    """Any function of outputs and targets that is a mean over samples."""

    metrics: tuple[str, ...] = ("loss",)

    def __init__(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.loss = loss

    def measure(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (self.loss(outputs, targets).double() * len(targets)).reshape(1)

    def report(self, means: list[float]) -> dict[str, float]:
        return {"loss": means[0]}
