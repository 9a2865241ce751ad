"""PipeMare: PipeDream's order without a stash, with careful steps at first and a guess of the forward pass's parameters::

    T1:  the update of version n is divided by  tau_k^p,   p = 1 - min((n - warmup) / anneal, 1)     tau_k: staleness of stage k
    T2:  delta <- gamma * delta + (1 - gamma) * (theta_new - theta_old)                              gamma = decay^(1 / tau_k)
         a backward pass uses  theta - tau_k * delta
    T3:  the first ``warmup`` updates are synchronous: the pipeline is emptied before each

B. Yang et al., "PipeMare: Asynchronous Pipeline Parallel DNN Training", MLSys 2021 (arXiv 1910.05124). The equations are
recalled, not copied; that of T1 is also in the public code AsyncPP. Of T3 it is known that it is a synchronous warm-up, meant for
Transformers, not how long it is, nor that T1 begins to anneal when it ends (our reading).

Order: one forward, one backward in turn. A backward pass is handed its guess when it begins; its gradient is divided by T1's
factor, makes the update (with several ``micro_batches`` after their mean), and the movement of that update enters ``delta``.
Differs from the paper: T2's ``tau_k`` is the staleness of the stage's newest push, which fits any order and any number of groups,
and is one too small during the first K batches. With this order it is ``K - k``, where the paper's pipeline has ``2(K - k) + 1``
slots. Activations are those of the forward pass (they are kept), only the weights are guessed. T3 is counted in updates, where
the paper counts epochs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import methods
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.needs import Need
from asyncsim.policies import State, Transform
from asyncsim.policies.transform import policies
from asyncsim.simulation.orders import FlushFirst, OneForwardOneBackward
from asyncsim.simulation.stage_program import Stage

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("rescheduling")
class Rescheduling(Transform):
    """Divide the update by ``tau ** p`` with ``p = 1 - min(n / updates, 1)`` at version ``n``: technique T1 of PipeMare, Yang et
    al. 2021 (arXiv 1910.05124), annealed from the whole division to none over the first ``updates`` of a shard. The first
    ``after`` updates are not divided, and do not count.

    ``tau`` is at least 1, in versions. ``observed``: the staleness of the push. ``paper``: ``(2 (K - k) + 1) / micro_batches``
    for stage ``k`` of ``K`` (from 1), the staleness of a pipeline whose forward and backward passes take a slot each.
    """

    updates: int = Field(default=1000, ge=1)
    tau: Literal["observed", "paper"] = "observed"
    micro_batches: int = Field(default=1, ge=1)
    after: int = Field(default=0, ge=0)

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        divisor = self.divisor(push.staleness, server)
        if divisor != 1.0:
            push.penalise(divisor)
        return push

    def divisor(self, staleness: int, server: ServerView) -> float:
        """The penalty of a push of this staleness (versions)."""
        if server.version < self.after:
            return 1.0
        slots = 2 * (server.num_stages - 1 - server.stage) + 1
        tau = slots / self.micro_batches if self.tau == "paper" else float(staleness)
        return max(tau, 1.0) ** (1.0 - min((server.version - self.after) / self.updates, 1.0))


@dataclass(slots=True)
class Movement(State):
    """The running mean of the movement of the parameters in one update, shape ``(P,)``, None before the first; and the staleness
    of the newest push."""

    staleness: int = 0
    velocity: Tensor | None = None


@policies.register("discrepancy_correction")
class DiscrepancyCorrection(Transform):
    """A backward pass that does not use its forward pass's parameters uses ``u = theta - tau * delta``: technique T2 of PipeMare,
    Yang et al. 2021 (arXiv 1910.05124).

    ``tau`` is the number of versions between the two passes: the staleness of the stage's newest push, or ``delay``. If
    parameters move at a constant velocity ``delta`` tends to it and ``u`` to the parameters of the forward pass. It acts where
    the stage program says ``backward: current`` or ``replayed``; gradients pass unchanged. What counts as movement is the shard's
    own update, before groups mix.
    """

    needs: ClassVar[Need] = Need.VALUES
    decay: float = Field(default=0.135, gt=0, lt=1)
    delay: float | None = Field(default=None, ge=0)

    def init(self, params: Tensor | None, num_workers: int) -> Movement:
        return Movement()

    def update(self, push: Push, state: Movement, server: ServerView) -> Push | Verdict:
        state.staleness = push.staleness
        return push

    def applied(self, direction: Tensor, state: Movement, server: ServerView) -> None:
        tau = self._tau(state)
        gamma = self.decay ** (1.0 / tau) if tau else 0.0
        if state.velocity is None:
            state.velocity = direction * ((gamma - 1.0) * server.lr)
        else:
            state.velocity.mul_(gamma).add_(direction, alpha=(gamma - 1.0) * server.lr)

    def late_view(self, params: Tensor, state: Movement, server: ServerView) -> Tensor:
        tau = self._tau(state)
        return params if not tau or state.velocity is None else params.sub(state.velocity, alpha=tau)

    def _tau(self, state: Movement) -> float:
        """Versions between the forward and the backward pass of a batch."""
        return state.staleness if self.delay is None else self.delay


@methods.register("pipemare")
class PipeMare(PipelineMethod):
    """PipeMare, Yang et al. 2021 (arXiv 1910.05124): one forward, one backward without a stash.

    - T1: updates are divided by ``tau ** p``, ``p`` annealed from 1 to 0 over ``anneal`` updates (0: never divided); ``tau`` as
      in the policy ``rescheduling``.
    - T2 (``correct``): backward passes use a guess of the forward pass's parameters, with the constant ``decay``.
    - T3: the first ``warmup`` updates are synchronous.
    - ``micro_batches`` make an update.
    """

    anneal: int = Field(default=1000, ge=0)
    tau: Literal["observed", "paper"] = "observed"
    correct: bool = True
    decay: float = Field(default=0.135, gt=0, lt=1)
    micro_batches: int = Field(default=1, ge=1)
    warmup: int = Field(default=0, ge=0)

    @property
    def treatments(self) -> tuple[Transform, ...]:
        rate = Rescheduling(updates=max(self.anneal, 1), tau=self.tau, micro_batches=self.micro_batches, after=self.warmup)
        correction = DiscrepancyCorrection(decay=self.decay)
        return (*((rate,) if self.anneal else ()), *((correction,) if self.correct else ()))

    def stage(self, stages: int) -> Stage:
        order = FlushFirst(batches=self.warmup) if self.warmup else OneForwardOneBackward()
        return Stage(order=order, backward="current", micro_batches=self.micro_batches)
