"""FTPipe's SGD: Gap-Aware inside a pipeline and weight prediction, for heavy-ball momentum::

    B <- D B + (1-D) u^2          u: the momentum buffer as the gradient finds it; without momentum the gradient
    C  = lr_max * (sqrt(B / (1 - D^t)) + 1e-8)
    G  = 1 + |theta - s| / C      where the staleness is above 0; s: what the forward pass was handed
    d  = (g + weight_decay * theta) / G;      v <- momentum * v + d;      theta <- theta - lr * v

    a forward pass is handed theta after n steps without gradients; n: steps among the batches in flight
    msnag:     theta - lr * (momentum + ... + momentum^n) * v
    aggmsnag:  n steps of the rule, weight decay included, the first with the gradient accumulated so far

Eliad et al., "FTPipe", USENIX ATC 2021, by its public code saareliad/FTPipe: see `asyncsim.methods.ftpipe`.

Order: ``B`` takes in ``u`` at every gradient, also where nothing is divided, before ``G`` is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView
from asyncsim.policies import HeavyBall, Velocity
from asyncsim.policies.prediction import AheadSettings, StepsAhead
from asyncsim.policies.step_rule import buffer, optimizers

if TYPE_CHECKING:
    from torch import Tensor


class FTPipeSettings(AheadSettings):
    """The fields of both step rules, and of the method that holds one.

    - ``gap_aware``: the stages whose gradients are divided by ``G``.
    - ``penalise``: what is divided, the ``gradient`` before it enters any moment, or the finished ``direction``.
    """

    gap_aware: Literal["none", "all_except_last", "all"] = "all_except_last"
    penalise: Literal["gradient", "direction"] = "gradient"


class FTPipeRule(FTPipeSettings, StepsAhead):
    """What both step rules share."""

    @property
    def amplifies_rounding(self) -> bool:
        return self.gap_aware != "none"

    def treats(self, server: ServerView) -> bool:
        """Is the stage one of those where Gap-Aware is on?"""
        return self.gap_aware == "all" or (self.gap_aware == "all_except_last" and server.stage < server.num_stages - 1)

    def gap(self, push: Push, server: ServerView) -> Tensor:
        """How far each parameter has moved since the forward pass, shape ``(P,)``."""
        return server.moved(push.snapshot).abs_()


@dataclass(slots=True)
class GapVelocity(Velocity):
    """The momentum buffer, and the mean square of the ``steps`` momentum buffers so far, shape ``(P,)``."""

    steps: int = 0
    square: Tensor | None = None


@optimizers.register("ftpipe_sgd")
class FTPipeSGD(FTPipeRule, HeavyBall):  # type: ignore[override]  # `needs` follows from the settings
    """Heavy-ball SGD of FTPipe (Eliad et al. 2021, USENIX ATC): Gap-Aware inside a pipeline, and weight prediction.

    - ``gap_from``: ``stashed``, the distance from what the forward pass was handed; or ``gradient``, ``lr * |g|``, which stands
      for it where nothing is stashed and the staleness is 1.
    - ``decay``: D of the mean square of steps.
    - ``nag_with_predictor``: the last stage, which has no staleness, is handed the parameters one step ahead: Nesterov's rule.

    Without momentum nothing is predicted.
    """

    gap_from: Literal["stashed", "gradient"] = "stashed"
    decay: float = Field(default=0.999, ge=0, lt=1)
    nag_with_predictor: bool = False

    def init(self, params: Tensor | None, num_workers: int) -> GapVelocity:
        return GapVelocity()

    @property
    def amplifies_rounding(self) -> bool:
        return self.gap_aware != "none" and self.momentum > 0

    def direction(self, push: Push, state: GapVelocity, server: ServerView) -> Tensor:
        gap = self._penalty(push, state, server)
        if gap is None:
            return super().direction(push, state, server)
        if self.penalise == "gradient":
            push.penalise(gap)
            return super().direction(push, state, server)
        direction = super().direction(push, state, server) / gap
        push.penalise(gap)
        return direction

    def velocity(self, state: GapVelocity, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)

    def gap(self, push: Push, server: ServerView) -> Tensor:
        return super().gap(push, server) if self.gap_from == "stashed" else push.gradient.abs().mul_(server.lr)

    def view(self, params: Tensor, state: GapVelocity, server: ServerView, worker: int) -> Tensor:
        if self.predict == "none" or not self.momentum:
            return params
        rates, decay, velocity = self.rates(server, worker), self.weight_decay, state.velocity
        begun = velocity is not None or bool(server.waiting)
        if begun and not rates and self.nag_with_predictor and server.stage == server.num_stages - 1:
            rates, decay = [server.rate_ahead(1, self.step_every - len(server.waiting))], 0.0
        if not rates:
            return params
        if velocity is None:
            velocity = params.new_zeros(params.shape)
        if self.predict == "msnag":
            return params.add(velocity, alpha=-sum(rate * self.momentum**step for step, rate in enumerate(rates, 1)))
        moving, partial = velocity, self.partial(server, worker)
        for rate in rates:
            moving = moving * self.momentum
            if partial is not None:
                moving, partial = moving.add_(partial), None
            if decay:
                moving.add_(params, alpha=decay)
            params = params.add(moving, alpha=-rate)
        return params

    def _penalty(self, push: Push, state: GapVelocity, server: ServerView) -> Tensor | None:
        """``G``, shape ``(P,)``, after the mean square has taken in one more step; None where nothing is divided."""
        if not self.treats(server):
            return None
        velocity = self.velocity(state, server)
        step = push.gradient if velocity is None else velocity
        state.steps += 1
        kept = step.new_zeros(step.shape) if state.square is None else state.square
        state.square = kept.mul_(self.decay).addcmul_(step, step, value=1.0 - self.decay)
        if not push.staleness or not server.lr_max:
            return None
        scale = (state.square / (1.0 - self.decay**state.steps)).sqrt_().add_(1e-8).mul_(server.lr_max)
        return self.gap(push, server).div_(scale).add_(1.0)
