"""Losses, and the metrics that are measured with them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

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
        return {"auc": area_under_roc(outputs, targets > 0)}


def area_under_roc(scores: Tensor, hits: Tensor) -> float:
    """How often one of the ``hits`` ``(n,)`` has a higher score than one of the others, ties counting one half:
    ``(R - P (P + 1) / 2) / (P N)`` for the sum R of the ranks of P hits among N others (Mann and Whitney); NaN where P or N is 0,
    or a score is not finite."""
    count = int(hits.sum())
    pairs = count * (len(hits) - count)
    if not pairs or not bool(torch.isfinite(scores).all()):
        return math.nan
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[place]
    return (float(ranks[hits].sum()) - count * (count + 1) / 2) / pairs


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
    found = hits.cumsum(0)
    precision = float((hits * found / there.cumsum(0)).sum() / found[-1])
    return {"loss": loss, "average_precision": precision, "auc": area_under_roc(scores, targets > 0)}
