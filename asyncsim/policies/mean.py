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
    read, are those of the last one.
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
    if uniform and all(push.replaced is None for push in pushes):
        mean.penalty = last.penalty
        return mean
    Future.gather([push.payload for push in pushes if push.payload is not None and push.replaced is None])
    if uniform:
        mean.penalty = last.penalty
        mean.replaced = _sum([push.gradient for push in pushes]).div_(len(pushes))
        return mean
    weights = [1.0 / push.penalty for push in pushes]
    total = sum(weights[1:], start=weights[0])
    mean.replaced = _sum([push.gradient * weight for push, weight in zip(pushes, weights, strict=True)]).div_(total)
    mean.penalty = len(pushes) / total
    return mean


def _sum(tensors: list[Tensor]) -> Tensor:
    total = tensors[0] + tensors[1]
    for tensor in tensors[2:]:
        total.add_(tensor)
    return total
