"""Momentum approximation: the server combines stale updates so that every version weighs what it would in fresh momentum::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x, clipped to the norm ``clip``
    server:  r_t = mean of ``buffer`` pushes + N(0, (noise * clip / buffer)^2);   w_t[s] = share of them computed at version s
      light: (c1, c2) = argmin | c1 * w_t + c2 * e - M_t |;   e <- c1 * w_t + c2 * e;   m <- c1 * r_t + c2 * m
      full:  a = argmin | sum of a_j * w_j - M_t |;           m <- sum over j <= t of a_j * r_j
             theta <- theta - lr * m                           where  M_t[s] = momentum^(t - s)

T. Yu, C. Song, J. Wang, M. Chitnis 2024, "Momentum Approximation in Asynchronous Private Federated Learning" (arXiv 2402.09247).
The aim and the two forms are the paper's, from secondary notes; the recursion of the light form is our reconstruction.

Order: a push is clipped as it arrives and buffered; the last of a group completes the mean, noise is added, and the weights are
found from the versions alone. With fresh updates they are those of plain momentum. ``full`` keeps all ``r_j``, or the last
``history``; ``light`` keeps one vector, and can be farther off than plain momentum: see the column ``momentum_error``, |. - M_t|.
Ours: singular values below ``cutoff`` times the largest one are left out of the argmin. With ``cutoff: 0`` nearly equal ``w_j``
get huge weights of opposite signs, and m is noise.
Privacy: ``epsilon`` in the summary is that of `asyncsim.theory.zcdp_epsilon` at ``delta`` for users who may take part in every
update. Momentum costs nothing. There is no amplification by sampling: none is claimed for asynchronous participation.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import dist, hypot, sqrt
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import Accumulate, Clip, GaussianNoise, StepRule, Transform, Velocity, heavy_ball
from asyncsim.policies.step_rule import buffer, optimizers
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-18  # weights of old versions below this are forgotten


class FormSettings(Spec):
    """The fields of the step rule, and of the method that holds one."""

    form: Literal["light", "full"] = "light"
    history: int | None = Field(default=None, ge=1)
    cutoff: float = Field(default=0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _light_has_no_history(self) -> FormSettings:
        if self.history is not None and self.form == "light":
            raise ValueError("history is that of `form: full`; the light form keeps one vector")
        return self


@dataclass(slots=True)
class Realised(Velocity):
    """The momentum, shape ``(P,)``, and what it is made of. Light: the weights in it of the versions from ``first`` on. Full: the
    means so far, shape ``(P,)`` each, and the versions of the pushes in each."""

    first: int = 0
    weights: list[float] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    versions: list[tuple[int, ...]] = field(default_factory=list)


@optimizers.register("approximate_momentum")
class ApproximateMomentum(FormSettings, StepRule):
    """SGD with the combination of all updates so far whose weights by version are nearest to those of fresh momentum; Yu et al.
    2024 (arXiv 2402.09247)."""

    notes: ClassVar[tuple[str, ...]] = ("momentum_error",)
    momentum: float = Field(default=0.9, ge=0, lt=1)

    def init(self, params: Tensor | None, num_workers: int) -> Realised:
        return Realised()

    def direction(self, push: Push, state: Realised, server: ServerView) -> Tensor:
        from asyncsim.theory.momentum_weights import momentum_row

        d, versions = self.decayed(push, server), tuple(version for version, _ in push.sources)
        first, row = (self._light if self.form == "light" else self._full)(d, versions, state, server.version)
        older = self.momentum ** (2 * len(row)) * (1 - self.momentum ** (2 * first)) / (1 - self.momentum**2)
        push.note("momentum_error", hypot(dist(row, momentum_row(self.momentum, len(row)).tolist()), sqrt(older)))
        assert state.velocity is not None, "it has been made"
        return state.velocity

    def _light(self, d: Tensor, versions: tuple[int, ...], state: Realised, now: int) -> tuple[int, list[float]]:
        from asyncsim.theory.momentum_weights import light_weights

        first = min(state.first if state.weights else now, *versions)
        before = [0.0] * (state.first - first) + state.weights if state.weights else []
        before += [0.0] * (now + 1 - first - len(before))
        c1, c2, found = light_weights(shares(versions, first, now), before, self.momentum, self.cutoff)
        state.velocity = d * c1 if state.velocity is None else state.velocity.mul_(c2).add_(d, alpha=c1)
        row = found.tolist()
        old = 0
        while old < now - first and abs(row[old]) < TINY and self.momentum ** (now - first - old) < TINY:
            old += 1
        state.first, state.weights = first + old, row[old:]
        return first, row

    def _full(self, d: Tensor, versions: tuple[int, ...], state: Realised, now: int) -> tuple[int, list[float]]:
        from asyncsim.theory.momentum_weights import full_weights

        keep = 0 if self.history is None else -self.history
        state.means = [*state.means, d.clone()][keep:]
        state.versions = [*state.versions, versions][keep:]
        first = min(map(min, state.versions))
        a, row = full_weights([shares(each, first, now) for each in state.versions], self.momentum, self.cutoff)
        state.velocity = d.new_zeros(d.shape)
        for weight, mean in zip(a.tolist(), state.means, strict=True):
            state.velocity.add_(mean, alpha=weight)
        return first, row.tolist()

    def velocity(self, state: Realised, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)


def shares(versions: tuple[int, ...], first: int, last: int) -> list[float]:
    """The share of each of the versions ``first`` to ``last`` in ``versions``."""
    found = Counter(versions)
    return [found[version] / len(versions) for version in range(first, last + 1)]


@methods.register("momentum_approximation")
class MomentumApproximation(FormSettings, LocalMethod):
    """FedBuff with momentum that weighs every version as fresh momentum would, as far as its updates allow; Yu et al. 2024
    (arXiv 2402.09247). The momentum is the optimizer's (``sgd``). With ``noise`` and ``clip`` it is differentially private."""

    buffer: int = Field(default=4, ge=1)
    clip: float | None = Field(default=None, gt=0)
    noise: float = Field(default=0.0, ge=0)
    delta: float = Field(default=1e-5, gt=0, lt=1)

    @model_validator(mode="after")
    def _noise_is_for_clipped_pushes(self) -> MomentumApproximation:
        if self.noise and self.clip is None:
            raise ValueError("noise is relative to the norm to which pushes are clipped; give `clip` too")
        return self

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        step = self.part(ApproximateMomentum, **heavy_ball(optimizer, "momentum approximation"))
        chain: list[Transform] = [] if self.clip is None else [Clip(max_norm=self.clip)]
        chain.append(Accumulate(count=self.buffer))
        if self.noise and self.clip is not None:
            chain.append(GaussianNoise(norm=self.clip, multiplier=self.noise, delta=self.delta))
        return Bundle(tuple(chain), step, ASP(), self.local())
