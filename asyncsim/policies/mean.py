"""The mean of several pushes as one push, which is not computed earlier than they would be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.messages import Future, Push

if TYPE_CHECKING:
    from torch import Tensor


def mean_push(pushes: list[Push]) -> Push:
    """One push whose update is the mean of what ``pushes`` (at least two) would have done, each with its own penalty.

    With weights ``w = 1 / penalty`` it carries the weighted mean gradient ``sum(w g) / sum(w)`` and the penalty
    ``count / sum(w)``, so a step rule that normalises gradients (Adam) is still slowed down. Who sent it, and when it was
    read, are those of the last one. Where pushes are about some of the parameters only (``trained``), the mean gradient of each
    parameter is over those that are about it, and 0 where none is.
    """
    last = pushes[-1]
    mean = Push(
        last.worker, last.step, last.snapshot, last.staleness, last.time, sum(push.samples for push in pushes), last.payload
    )  # fmt: skip
    mean.noted = last.noted  # the update is the last one's
    mean.merged = tuple(source for push in pushes for source in push.sources)
    if last.payload is None:
        return mean
    mean.payload = Future.mean([push.payload for push in pushes if push.payload is not None])
    penalties = [push.penalty for push in pushes]
    uniform = all(isinstance(penalty, float) for penalty in penalties) and len(set(penalties)) == 1
    whole = all(push.trained is None for push in pushes)
    if uniform and whole and all(push.replaced is None for push in pushes):
        mean.penalty = last.penalty
        return mean
    Future.gather([push.payload for push in pushes if push.payload is not None and push.replaced is None])
    if uniform and whole:
        mean.penalty = last.penalty
        mean.replaced = _sum([push.gradient for push in pushes]).div_(len(pushes))
        return mean
    weights = [1.0 / push.penalty for push in pushes]
    total = sum(weights[1:], start=weights[0])
    mean.penalty = last.penalty if uniform else len(pushes) / total
    if not whole:
        shares = [_trained(push) * weight for push, weight in zip(pushes, weights, strict=True)]
        total = _sum(shares)
        mean.trained = total > 0
        total.masked_fill_(~mean.trained, 1.0)
        weights = [*shares]
    mean.replaced = _sum([push.gradient * weight for push, weight in zip(pushes, weights, strict=True)]).div_(total)
    return mean


def _trained(push: Push) -> Tensor:
    """1 at the parameters that a push is about, 0 at the others, shape ``(P,)``."""
    gradient = push.gradient
    return gradient.new_ones(gradient.shape) if push.trained is None else push.trained.to(gradient.dtype)


def _sum(tensors: list[Tensor]) -> Tensor:
    total = tensors[0] + tensors[1]
    for tensor in tensors[2:]:
        total.add_(tensor)
    return total
