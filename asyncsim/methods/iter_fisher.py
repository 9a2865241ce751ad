"""Iter-Fisher: a stale gradient is carried along the path that the parameters have taken since it was computed::

    A(g, w1, w0) = g + lam * g * g * (w1 - w0)                 one step of delay compensation (`dc_asgd`, constant)
    g <- A(g, w_{s+1}, w_s)   for s = t, ..., t + tau - 1      w_t: what the worker read, w_{t+tau}: the newest parameters
    then the optimiser, as in ``asgd``

    lam, with ``eta_lam`` above 0:  minimise |(D - E) - lam F|^2 + nu lam^2  by one gradient step a push
        D - E = (1 - alpha) * (g - m)    m: the exponential mean of the gradients before this one;   F = g * g * (w_k - w_{k-1})
        lam  <- lam - 2 eta_lam * (lam * (<F, F> + nu) - <D - E, F>)

Y. Zhou et al., "Ferret", CVPR 2025: the compensation of their pipelines, by the paper's main text. What follows is our
reconstruction: ``k`` counts the pushes that arrive at a shard, ``g`` in ``D - E`` and in ``F`` is the gradient as it arrives, and
``m`` begins as the first gradient, at which ``lam`` is not changed. No default is known from the paper.

Order: ``lam`` is learnt from the gradient as it arrived; the gradient is carried along with the new ``lam``; then weight decay is
added.
Ours: at most ``longest`` steps. The first step of an older gradient leads over the versions that are not kept any more, and with
``longest: 1`` every path is one step: the paper's rival Fisher.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


class IterFisherSettings(Spec):
    """The fields of the transform, and of the method that holds one.

    - ``lam``: the strength, or what it begins with. ``eta_lam``: the rate at which it is learnt; 0 leaves it as it is.
    - ``alpha``: of the exponential mean of gradients; ``nu``: the weight of ``lam ** 2`` in what is minimised.
    - ``longest``: the most steps of a path, and so the versions that a shard keeps.
    """

    lam: float = Field(default=0.2, ge=0)
    eta_lam: float = Field(default=0.0, ge=0)
    alpha: float = Field(default=0.9, ge=0, lt=1)
    nu: float = Field(default=1e-3, ge=0)
    longest: int = Field(default=64, ge=1)


@dataclass(slots=True)
class Learnt(State):
    """What a learnt ``lam`` (0-d) needs: the mean of the gradients, and the newest parameters when the last one came, both of
    shape ``(P,)``; None before the first push."""

    lam: Tensor | None = None
    mean: Tensor | None = None
    before: Tensor | None = None


@policies.register("iter_fisher")
class IterFisher(IterFisherSettings, Transform):
    """``g <- g + lam * g * g * (w_{s+1} - w_s)`` for every version since the read; Zhou et al., CVPR 2025 (Ferret).

    The strength of each push is noted as ``lam``. ``O(longest * P)`` memory for the versions, and ``2 P`` where it is learnt.
    """

    notes: ClassVar[tuple[str, ...]] = ("lam",)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.VALUES | (Need.HISTORY if self.longest > 1 else Need.NOTHING)

    @property
    def history(self) -> int:
        return self.longest - 1

    def init(self, params: Tensor | None, num_workers: int) -> Learnt:
        return Learnt()

    def update(self, push: Push, state: Learnt, server: ServerView) -> Push | Verdict:
        gradient = push.gradient
        lam: float | Tensor = self._learn(gradient, state, server.params) if self.eta_lam else self.lam
        push.note("lam", lam)
        if not self.lam and not self.eta_lam:
            return push
        for before, after in pairwise(server.path(push.snapshot, self.longest)):
            if after is not before:
                gradient = (gradient * gradient).mul_(after - before).mul_(lam).add_(gradient)
        push.replaced = gradient
        return push

    def _learn(self, gradient: Tensor, state: Learnt, params: Tensor) -> Tensor:
        """The strength, 0-d, after one more gradient has been seen at these newest parameters."""
        if state.lam is None or state.mean is None or state.before is None:
            state.lam, state.mean = gradient.new_tensor(self.lam), gradient.clone()
        else:
            change = (gradient - state.mean).mul_(1.0 - self.alpha)
            fisher = (gradient * gradient).mul_(params - state.before)
            slope = state.lam * (fisher.dot(fisher) + self.nu) - change.dot(fisher)
            state.lam = state.lam - slope * (2.0 * self.eta_lam)
            state.mean = state.mean + change
        state.before = params
        return state.lam


@methods.register("iter_fisher")
class IterFisherAsgd(IterFisherSettings, Method):
    """ASGD with the compensation Iter-Fisher of Ferret, Zhou et al. 2025; in pipelines: ``before: [iter_fisher]``."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(IterFisher),), optimizer, ASP(), Replica())
