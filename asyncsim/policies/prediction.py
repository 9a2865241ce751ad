"""Weight prediction: compute on the parameters as momentum will have left them when the gradient arrives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.needs import Need
from asyncsim.policies.momentum import HeavyBall, Velocity
from asyncsim.policies.step_rule import StepRule, optimizers
from asyncsim.registry import Spec

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


class AheadSettings(Spec):
    """The fields of step rules that take steps ahead without gradients, and of methods that hold one.

    - ``predict``: ``msnag``, as many steps as there are updates among the batches in flight, or ``aggmsnag``, the first of them
      with the gradient that has been accumulated so far.
    - ``scheduler_aware``: by the learning rates that the schedule will have; otherwise by that of the next update.
    - ``step_every``: backward passes an update.
    """

    predict: Literal["none", "msnag", "aggmsnag"] = "none"
    scheduler_aware: bool = False
    step_every: int = Field(default=1, ge=1)


class StepsAhead(AheadSettings, StepRule):
    """A step rule whose workers may be handed the parameters some steps ahead, in the order one forward, one backward."""

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        """Between two updates the prediction moves with every gradient that is accumulated."""
        return Need.WORKER_VIEW if self.predict != "none" and self.step_every > 1 else Need.NOTHING

    def rates(self, server: ServerView, worker: int) -> list[float]:
        """The learning rates of the steps to look ahead: those among the batches that the worker has in flight in a full
        pipeline; none before the first gradient."""
        waiting = server.waiting
        if not server.version and not waiting:
            return []
        every, lag = self.step_every, server.num_stages - 1 - server.stage
        done = sum(push.worker == worker for push in waiting) if every > 1 else 0
        steps = (done + lag) // every
        if self.scheduler_aware:
            return [server.rate_ahead(step, step * every - done) for step in range(1, steps + 1)]
        return [server.rate_ahead(1, every - done)] * steps

    def partial(self, server: ServerView, worker: int) -> Tensor | None:
        """What the worker's gradients since the last update add to the next one's mean, shape ``(P,)``; None if there are none,
        or the prediction leaves them out."""
        if self.predict != "aggmsnag" or self.step_every == 1:
            return None
        total: Tensor | None = None
        for push in server.waiting:
            if push.worker == worker and push.payload is not None:
                share = push.gradient / self.step_every
                total = share if total is None else total.add_(share)
        return total
