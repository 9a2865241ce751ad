"""Collect more and more pushes for an update as the training loss falls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.accumulate import Accumulate, Group
from asyncsim.policies.transform import policies

if TYPE_CHECKING:
    from torch import Tensor


ROUNDING = 1e-9
"""How far above a whole number counts as that number: a loss that is constant but for rounding leaves it as it is."""


@dataclass(slots=True)
class GrowingGroup(Group):
    """The group, how many pushes complete it, the training loss at the start and now, and how many losses the start's is the mean
    of."""

    count: int = 1
    first: float = 0.0
    loss: float = 0.0
    heard: int = 0


@policies.register("accumulate_by_loss")
class AccumulateByLoss(Accumulate):
    """Average ``K`` pushes into one update, where ``K`` grows from ``count`` as the training loss falls (AdaSync, Dutta et al.
    2021).

    After every update ``K <- min(N, max(K, ceil(count * sqrt(F_0 / F))))``. ``F_0`` is the mean loss of the pushes that arrive
    before the first update, at which ``F`` begins; every later push takes ``F`` the share ``weight`` of
    the way to its own loss. ``K`` is noted of every push, as ``k``. Where ``F`` is not a positive number ``K`` stays as it is.
    With ``weight`` 0 it always does, and no loss is looked at.
    """

    notes: ClassVar[tuple[str, ...]] = ("k",)
    count: int = Field(ge=1)
    weight: float = Field(default=0.1, ge=0, le=1)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return super().needs & ~Need.MEANS | Need.VALUES if self.weight else super().needs

    def init(self, params: Tensor | None, num_workers: int) -> GrowingGroup:
        return GrowingGroup(count=min(self.count, num_workers))

    def update(self, push: Push, state: Group, server: ServerView) -> Push | Verdict:
        assert isinstance(state, GrowingGroup)
        push.note("k", state.count)
        if self.weight and push.payload is not None:
            self.hear(float(push.payload.result().loss), state, server)
        return super().update(push, state, server)

    def hear(self, loss: float, state: GrowingGroup, server: ServerView) -> None:
        """Take the training loss of a push into the running average."""
        if not math.isfinite(loss):
            return
        if server.version == 0 or not state.heard:
            state.heard += 1
            state.loss += (loss - state.loss) / state.heard
            state.first = state.loss
        else:
            state.loss += self.weight * (loss - state.loss)

    def settle(self, state: Group, server: ServerView) -> Push | None:
        push = super().settle(state, server)
        if push is not None:
            assert isinstance(state, GrowingGroup)
            state.count = self.grown(state, server.num_workers)
        return push

    def grown(self, state: GrowingGroup, num_workers: int) -> int:
        """How many pushes the next group takes."""
        if not (state.first > 0 and state.loss > 0):
            return state.count
        wanted = self.count * math.sqrt(state.first / state.loss)
        return max(state.count, math.ceil(min(wanted, num_workers) - ROUNDING))

    def wanted(self, state: Group) -> int:
        assert isinstance(state, GrowingGroup)
        return state.count
