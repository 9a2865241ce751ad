"""Spike compensation: a step rule for stale gradients, for any pipeline or asynchronous method::

    v     <- momentum * v + d                       theta <- theta - lr * (a * v + b * d)
    a = momentum^D                                  b = (1 - momentum^D) / (1 - momentum)         D: staleness in versions

Kosson et al., MLSys 2021 (arXiv 2003.11666). The equations are recalled (high confidence); that the rule is exact where gradients
do not depend on the parameters was checked.

Order: the gradient enters the velocity first, then both step. What a gradient has moved ``D`` updates after it was computed is
then what it would have moved without the delay; ``D = 0`` is heavy-ball SGD.
Ours: ``D`` is the staleness of each push by itself, unless ``delay`` fixes it. It is a step rule: name it as ``optimizer`` of any
method, or take `asyncsim.methods.pipelined_backprop`, the pipeline that it was made for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.policies import WeightPrediction
from asyncsim.policies.prediction import Horizon, LastMove
from asyncsim.policies.step_rule import optimizers

if TYPE_CHECKING:
    from torch import Tensor


@optimizers.register("spike_compensation")
class SpikeCompensation(WeightPrediction):
    """Spike compensation: give a late gradient at once what it would have done by now; Kosson et al. 2021 (arXiv 2003.11666).

    ``delay``: versions, by default the staleness of the push. With a ``horizon`` above 0 workers are handed a linear prediction
    as well, by velocity or by weights (their LWPv and LWPw with SC, which they recommend together; recalled).
    """

    delay: int | None = Field(default=None, ge=0)
    horizon: Horizon = 0.0

    def momentum_step(self, d: Tensor, push: Push, state: LastMove, server: ServerView) -> Tensor:
        delay = push.staleness if self.delay is None else self.delay
        velocity = super().momentum_step(d, push, state, server)
        if not delay:
            return velocity
        kept = self.momentum**delay
        return velocity.mul(kept).add_(d, alpha=(1.0 - kept) / (1.0 - self.momentum))
