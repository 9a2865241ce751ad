"""Weight prediction: compute on the parameters as momentum will have left them when the gradient arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.policies.momentum import HeavyBall, Velocity
from asyncsim.policies.step_rule import optimizers

if TYPE_CHECKING:
    from torch import Tensor

Horizon = Literal["1f1b", "ticks", "spectrain", "spectrain_v2"] | Annotated[float, Field(ge=0)]


def ahead(horizon: Horizon, stage: int, num_stages: int) -> tuple[float, float]:
    """The number of updates by which the forward pass and a late backward pass of a stage (counted from 0) look ahead."""
    above = num_stages - 1 - stage
    match horizon:
        case "1f1b":
            return above, 0
        case "ticks":
            return 2 * above, 0
        case "spectrain":
            return stage // 2 + above, stage // 2
        case "spectrain_v2":
            return above + 1, 0
    return horizon, 0


@optimizers.register("weight_prediction")
class WeightPrediction(HeavyBall):
    """Heavy-ball SGD whose workers are handed the parameters as momentum alone would leave them ``s`` updates from now.

    The rule::

        v <- momentum * v + d          theta <- theta - lr * v
        a worker is handed  theta - s * lr * v

    ==================  ==================================  ============================================================
    ``horizon``         ``s`` at stage ``r`` of ``N`` (from 0)  source
    ==================  ==================================  ============================================================
    ``1f1b``            ``N - r - 1``                       PipeOptim (arXiv 2312.00839; its code has one more)
    ``ticks``           ``2 (N - r - 1)``                   Kosson et al. 2021 (arXiv 2003.11666), LWPv
    ``spectrain``       ``floor(r / 2) + N - r - 1``        SpecTrain, Chen et al. 2018 (arXiv 1809.02839)
    ``spectrain_v2``    ``N - r``                           its second form
    a number            that many updates                   by hand
    ==================  ==================================  ============================================================

    ``spectrain`` predicts the parameters of the backward pass too, ``floor(r / 2)`` updates ahead: it wants a stage program with
    ``backward: current``. The others predict once, and a ``stashed`` backward pass uses the forward pass's prediction.
    Without momentum nothing is predicted. Exact for a constant gradient once the velocity is steady.
    """

    horizon: Horizon = "1f1b"

    def momentum_step(self, d: Tensor, push: Push, state: Velocity, server: ServerView) -> Tensor:
        return state.accumulate(self.momentum, d)

    def view(self, params: Tensor, state: Velocity, server: ServerView, worker: int) -> Tensor:
        return self._predicted(params, state, server, late=False)

    def late_view(self, params: Tensor, state: Velocity, server: ServerView) -> Tensor:
        return self._predicted(params, state, server, late=True)

    def _predicted(self, params: Tensor, state: Velocity, server: ServerView, late: bool) -> Tensor:
        steps = ahead(self.horizon, server.stage, server.num_stages)[late]
        if not steps or not self.momentum or state.velocity is None:
            return params
        return params.add(state.velocity, alpha=-steps * server.lr)
