"""Weight prediction: compute on the parameters as momentum will have left them when the gradient arrives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.needs import Need
from asyncsim.policies.momentum import HeavyBall, Velocity
from asyncsim.policies.step_rule import optimizers
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


class Predicting(Spec):
    """What step rules share whose workers are handed the parameters some updates ahead, as ``horizon`` says."""

    horizon: Horizon = "1f1b"

    def predicted(self, params: Tensor, state: Any, server: ServerView, updates: float) -> Tensor:
        """The parameters so many updates (above 0) from now, shape ``(P,)``."""
        raise NotImplementedError

    def view(self, params: Tensor, state: Any, server: ServerView, worker: int) -> Tensor:
        return self._ahead(params, state, server, late=False)

    def late_view(self, params: Tensor, state: Any, server: ServerView) -> Tensor:
        return self._ahead(params, state, server, late=True)

    def _ahead(self, params: Tensor, state: Any, server: ServerView, late: bool) -> Tensor:
        updates = ahead(self.horizon, server.stage, server.num_stages)[late]
        return self.predicted(params, state, server, updates) if updates else params


@dataclass(slots=True)
class LastMove(Velocity):
    """The momentum buffer, and what the last update added to the parameters, shape ``(P,)``; None where nobody asks for it."""

    move: Tensor | None = None


@optimizers.register("weight_prediction")
class WeightPrediction(Predicting, HeavyBall):
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

    ``form: weights`` takes the last movement of the parameters for the velocity, ``theta + s * (theta_t - theta_(t-1))`` (Kosson
    et al., LWPw): the same where the update is ``lr * v`` at a rate that stays, not with spike compensation.

    ``spectrain`` predicts the parameters of the backward pass too, ``floor(r / 2)`` updates ahead: it wants a stage program with
    ``backward: current``. The others predict once, and a ``stashed`` backward pass uses the forward pass's prediction.
    Without momentum the form ``velocity`` predicts nothing. Exact for a constant gradient once the velocity is steady.
    """

    form: Literal["velocity", "weights"] = "velocity"

    def init(self, params: Tensor | None, num_workers: int) -> LastMove:
        return LastMove()

    def direction(self, push: Push, state: LastMove, server: ServerView) -> Tensor:
        direction = super().direction(push, state, server)
        if self.form == "weights":
            state.move = direction * -server.lr
        return direction

    def predicted(self, params: Tensor, state: LastMove, server: ServerView, updates: float) -> Tensor:
        if self.form == "weights":
            return params if state.move is None else params.add(state.move, alpha=updates)
        if not self.momentum or state.velocity is None:
            return params
        return params.add(state.velocity, alpha=-updates * server.lr)


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


class StepsAhead(AheadSettings):
    """What step rules share whose workers may be handed the parameters some steps ahead, in the order one forward, one backward.
    """

    @property
    def needs(self) -> Need:
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
