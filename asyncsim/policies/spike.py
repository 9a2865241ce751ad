"""Spike compensation: apply at once the part of a late gradient that would have been applied by now without the delay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.policies.prediction import Horizon, WeightPrediction
from asyncsim.policies.push import Push, ServerView
from asyncsim.policies.steps import optimizers
from asyncsim.policies.transform import State

if TYPE_CHECKING:
    from torch import Tensor


@optimizers.register("spike_compensation")
class SpikeCompensation(WeightPrediction):
    """Spike compensation: a late gradient is applied at once as far as it would have been applied by now.

    The rule of Kosson et al. 2021 (arXiv 2003.11666)::

        v <- momentum * v + d          theta <- theta - lr * (a * v + b * d)
        a = momentum^D                 b = (1 - momentum^D) / (1 - momentum)

    ``D`` is the staleness of the push, or ``delay`` (versions). What a gradient has moved since it was computed is then what it
    would have moved without the delay. D = 0 is heavy-ball SGD. With a ``horizon`` above 0 workers are handed a linear prediction
    as well (their LWPv with SC; they recommend both).
    """

    delay: int | None = Field(None, ge=0)
    horizon: Horizon = 0.0

    def direction(self, push: Push, state: State, server: ServerView) -> Tensor:
        delay = push.staleness if self.delay is None else self.delay
        if not self.momentum or not delay:
            return super().direction(push, state, server)
        d = self.decayed(push, server)
        velocity = state["velocity"]
        state["velocity"] = velocity = d.clone() if velocity is None else velocity.mul_(self.momentum).add_(d)
        kept = self.momentum**delay
        return velocity.mul(kept).add_(d, alpha=(1.0 - kept) / (1.0 - self.momentum))
