"""Decoupled DiLoCo's merging: of every fragment the weighted mean of what has come by quorum and grace, and a step of its own::

    a group is closed ``grace`` seconds after its ``quorum``-th push, or when every member has pushed in it
    for each fragment p of which there are pushes in it:   D[p] = sum of w_i * D_i[p] / sum of w_i
                                                           theta[p] <- outer step with D[p], whose momentum is p's own
    w_i = tokens_i * (tokens_i / steps_i)

Decoupled DiLoCo, 2026 (arXiv 2604.21428), from an equation sheet of a third party (a secondary source).

Order: a push is kept; the one that completes a group closes it at once, or the end of the grace does. Without a ``quorum`` a
group takes a push of every member. A push is of one fragment, and zero elsewhere: the fragment ``step mod fragments``.
Ours: tokens are the samples of a push. A penalty of a transform before this one divides what is merged, not the weights. The
method that has it is ``streaming_diloco``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule, Transform, Velocity
from asyncsim.policies.accumulate import everybody
from asyncsim.policies.mean import mean_push
from asyncsim.policies.step_rule import optimizers
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.units import PositiveSeconds, nanoseconds

if TYPE_CHECKING:
    from torch import Tensor


class Fragments(Spec):
    """``fragments``: into how many nearly equal pieces, in the order of the flat vector, the parameters are cut."""

    fragments: int = Field(default=4, ge=1)


def pieces(numbers: int, fragments: int) -> list[slice]:
    """Where the fragments of so many numbers lie."""
    return [slice(part * numbers // fragments, (part + 1) * numbers // fragments) for part in range(fragments)]


@dataclass(slots=True)
class FragmentGroup(State):
    """The pushes of the open group in the order of their arrivals, and when it closes (virtual ns), once its quorum is there."""

    pushes: list[Push] = field(default_factory=list)
    end: int | None = None


class QuorumSettings(Fragments):
    """The fields of the transform, and of the method that holds one."""

    quorum: int | None = Field(default=None, ge=1)
    grace: PositiveSeconds | None = None

    @model_validator(mode="after")
    def _grace_of_a_quorum(self) -> QuorumSettings:
        if self.grace is not None and self.quorum is None:
            raise ValueError("`grace` is the time after a `quorum`, and there is none: every member is waited for")
        return self


@policies.register("fragment_means")
class FragmentMeans(QuorumSettings, Transform):
    """Merge the pushes of a group, each of one fragment, into the weighted mean of every fragment (Decoupled DiLoCo, 2026)."""

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        everyone = Need.EVERYONE if self.quorum is None else Need.NOTHING
        return Need.BUFFERS | Need.MEANS | everyone | (Need.NOTHING if self.grace is None else Need.CLOSES)

    def init(self, params: Tensor | None, num_workers: int) -> FragmentGroup:
        return FragmentGroup()

    def update(self, push: Push, state: FragmentGroup, server: ServerView) -> Push | Verdict:
        state.pushes.append(push)
        if self.quorum is not None and len(state.pushes) == self.quorum:
            state.end = push.time + (0 if self.grace is None else nanoseconds(self.grace))
        return self.settle(state, server) or Verdict.BUFFERED

    def settle(self, state: FragmentGroup, server: ServerView) -> Push | None:
        if not state.pushes or not (everybody(state.pushes, server) or (state.end is not None and server.now >= state.end)):
            return None
        pushes, state.pushes, state.end = state.pushes, [], None
        merged = pushes[0] if len(pushes) == 1 else mean_push(pushes)
        alike = self.fragments == 1 and len({weight(push) for push in pushes}) == 1
        if merged.payload is not None and not alike:
            merged.replaced, merged.penalty = self.merged(pushes), 1.0
        return merged

    def closes(self, state: FragmentGroup) -> int | None:
        return state.end

    def merged(self, pushes: list[Push]) -> Tensor:
        """The mean of every fragment over those who pushed it, shape ``(P,)``; zero where nobody did."""
        total = pushes[0].gradient.new_zeros(pushes[0].gradient.shape)
        for part, piece in enumerate(pieces(len(total), self.fragments)):
            mine = [push for push in pushes if push.step % self.fragments == part]
            weights = sum(map(weight, mine))
            for push in mine:
                penalty = push.penalty if isinstance(push.penalty, float) else push.penalty[piece]
                total[piece] += push.gradient[piece] * (weight(push) / weights) / penalty
        return total


def weight(push: Push) -> float:
    """Samples times samples a step, as far as the number of steps differs."""
    return push.samples**2 / (push.snapshot.pace[1] if push.snapshot.pace else 1)


@optimizers.register("fragment_sgd")
class FragmentSGD(Fragments, StepRule):
    """SGD with a momentum for every fragment, which stands still, momentum and all, where a push is zero (Decoupled DiLoCo)."""

    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True

    def init(self, params: Tensor | None, num_workers: int) -> Velocity:
        return Velocity(None if params is None else params.new_zeros(params.shape))

    def direction(self, push: Push, state: Velocity, server: ServerView) -> Tensor:
        velocity = state.velocity
        assert velocity is not None, "there are parameters"
        moved = [piece for piece in pieces(len(velocity), self.fragments) if bool(push.gradient[piece].any())]
        d, direction = self.decayed(push, server), velocity.new_zeros(velocity.shape)
        for piece in moved:
            velocity[piece] = velocity[piece] * self.momentum + d[piece]
            direction[piece] = d[piece] + velocity[piece] * self.momentum if self.nesterov else velocity[piece]
        return direction

    def velocity(self, state: Velocity, server: ServerView) -> Tensor | None:
        return state.velocity if self.momentum else None
