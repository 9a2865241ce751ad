"""Dropout whose masks are a function of a key, never of a global generator."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """``y = x m / (1 - p)`` with Bernoulli(1 - p) masks m (Srivastava et al. 2014); the identity for p = 0 and in eval mode.

    The generator is set from outside, by ``Task.seed_masks(key)`` before each gradient, and shared by all layers of a
    module, so a gradient is a function of (parameters, batch, key). RuntimeError where nobody set one.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if self.generator is None:
            raise RuntimeError("this dropout layer has no generator; a Task sets one (Task.from_module)")
        keep = 1 - self.p
        return x * torch.empty_like(x).bernoulli_(keep, generator=self.generator).div_(keep)

    def extra_repr(self) -> str:
        return f"p={self.p}"
