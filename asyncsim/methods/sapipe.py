"""SAPipe: a mean gradient that travels while the next round is computed, and workers that predict what it will lead to::

    round t, worker i:   g_i(t) <- gradient at its predicted point p_i(t), launched
                         wait for gbar(t - 1), the mean over the workers;   w <- one step of the optimiser with gbar(t - 1)
                         p_i(t + 1) <- one shadow step from w with an estimate of gbar(t), after which the optimiser is as before

    estimates:   local            g_i(t)
                 prev_sync        gbar(t - 1)
                 local_prev_sync  gbar(t - 1) + (g_i(t) - g_i(t - 1)) / N            its own part made fresh

Y. Chen et al., NeurIPS 2022, from the authors' code (github.com/ChenAris/sapipe); the paper's abstract was read.

Order: launch, wait, step, shadow step. The first ``warmup`` rounds are synchronous (at least one where something is predicted).
In the next nothing has been reduced, and there is no step, only a shadow step. Where an estimate lacks a part, in the first
rounds or after its worker has been down, ``local`` takes its place.
``compensate`` is delay compensation: a gradient becomes ``g + compensate * g * g * (w - w_prev)`` (``elementwise``), with
``<g, w - w_prev> g`` in place of the product (``outer``), or divided by ``sqrt(g * g + 1e-7)`` (``adaptive``); ``w_prev`` is what
``w`` was before the last step. Without prediction it is the gradient of the step, but for the first one that was launched; with a
prediction it is the ``gbar`` of the estimate, at the ``w`` of the shadow step, which is our reading of "the synchronised part".
The shadow step takes the learning rate of the last step. Left out: partial staleness (only the first layers a round late).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from asyncsim.consistency import BSP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import Accumulate, State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


class Prediction(Spec):
    """``prediction``: the estimate of the mean that is on its way; ``compensate``: the strength of delay compensation."""

    prediction: Literal["none", "local", "prev_sync", "local_prev_sync"] = "local_prev_sync"
    compensate: float = Field(default=0.0, ge=0)
    form: Literal["elementwise", "outer", "adaptive"] = "elementwise"

    @model_validator(mode="after")
    def _something_to_compensate(self) -> Prediction:
        if self.compensate and self.prediction == "local":
            raise ValueError("`compensate` corrects a mean of the round before, and `prediction: local` takes none")
        return self


@dataclass(slots=True)
class Known(State):
    """By worker its last gradient and the one before, as far as the estimate wants them; the last mean of gradients that were
    launched, and the parameters before it was applied. All of shape ``(P,)``."""

    launched: bool = False
    last: dict[int, Tensor] = field(default_factory=dict)
    before_last: dict[int, Tensor] = field(default_factory=dict)
    mean: Tensor | None = None
    params: Tensor | None = None


@policies.register("shadow_step")
class ShadowStep(Prediction, Transform):
    """Hand each worker the parameters after a shadow step with an estimate of the mean that is on its way (Chen et al. 2022).
    Stands behind ``accumulate``. ``O(P)`` memory for each worker, twice that for ``local_prev_sync``."""

    needs: ClassVar[Need] = Need.VALUES | Need.LAUNCHES | Need.WORKER_VIEW

    def fits(self, step: StepRule) -> None:
        if type(step).view is not StepRule.view:
            raise ValueError(f"a shadow step would come in place of the look-ahead that the optimizer {step.kind} hands out")

    def init(self, params: Tensor | None, num_workers: int) -> Known:
        return Known()

    def launched(self, push: Push, state: Known, server: ServerView) -> Push | None:
        state.launched = True
        if self.prediction != "none":
            if self.prediction == "local_prev_sync" and push.worker in state.last:
                state.before_last[push.worker] = state.last[push.worker]
            state.last[push.worker] = push.gradient.clone()
        return None

    def forget(self, worker: int, state: Known) -> None:
        state.last.pop(worker, None)
        state.before_last.pop(worker, None)

    def update(self, push: Push, state: Known, server: ServerView) -> Push | Verdict:
        if not state.launched:
            return push
        if self.prediction == "none" and self.compensate and state.params is not None:
            push.replaced = self.compensated(push.gradient, server.params - state.params)
        state.mean, state.params = None if self.prediction == "none" else push.gradient.clone(), server.params
        return push

    def view(self, params: Tensor, state: Known, server: ServerView, worker: int) -> Tensor:
        own = state.last.get(worker)
        return params if own is None else server.ahead(self.estimate(own, params, state, server, worker))

    def estimate(self, own: Tensor, params: Tensor, state: Known, server: ServerView, worker: int) -> Tensor:
        """Of the mean gradient that is on its way, shape ``(P,)``, for ``worker`` whose own part of it is ``own``."""
        before = state.before_last.get(worker)
        if self.prediction == "local" or state.mean is None or (self.prediction == "local_prev_sync" and before is None):
            return own
        assert state.params is not None, "it is kept with the mean"
        mean = self.compensated(state.mean, params - state.params) if self.compensate else state.mean
        return mean if before is None else mean + (own - before) / server.members

    def compensated(self, gradient: Tensor, moved: Tensor) -> Tensor:
        """``gradient`` as if it had been computed ``moved`` further on, all of shape ``(P,)``."""
        if self.form == "outer":
            return gradient + gradient.dot(moved) * self.compensate * gradient
        square = gradient * gradient
        scale = (square + 1e-7).sqrt() if self.form == "adaptive" else 1.0
        return gradient + square * moved * self.compensate / scale


@methods.register("sapipe")
class SaPipe(Prediction, Method):
    """SAPipe, Chen et al. 2022: the mean gradient of a round travels while workers compute at predicted parameters. ``staleness:
    0`` is synchronous SGD."""

    warmup: int = Field(default=1, ge=0)
    staleness: int = Field(default=1, ge=0, le=1)

    @model_validator(mode="after")
    def _a_prediction_has_its_time(self) -> SaPipe:
        predicts = self.prediction != "none"
        if predicts and not self.warmup:
            raise ValueError("`warmup` is at least 1 where something is predicted; without it take `prediction: none`")
        if not self.staleness and (predicts or self.compensate):
            raise ValueError("with `staleness: 0` nothing is late: take `prediction: none` and no `compensate`")
        return self

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if not self.staleness:
            return Bundle((Accumulate(members=True),), optimizer, BSP(), Replica())
        shadow = (self.part(ShadowStep),) if self.prediction != "none" or self.compensate else ()
        return Bundle((Accumulate(members=True), *shadow), optimizer, BSP(lag=1, warmup=self.warmup), Replica(overlap=True))
