"""The first step of rounds with a lag, for which nothing has been reduced yet."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.policies.transform import Transform, policies

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Started(State):
    """Has the step been made?"""

    started: bool = False


@policies.register("zero_start")
class ZeroStart(Transform):
    """When the first push is launched there is no mean of a round before it, and the optimiser steps on a gradient of zero (as
    in LAGA's code): momentum and weight decay act, and from then on every gradient of rounds with a lag has staleness 1.

    The step is a version of its own, of no samples, at the time of that launch. Meant to stand behind ``accumulate``.
    """

    needs: ClassVar[Need] = Need.LAUNCHES

    def init(self, params: Tensor | None, num_workers: int) -> Started:
        return Started()

    def update(self, push: Push, state: Started, server: ServerView) -> Push | Verdict:
        return push

    def launched(self, push: Push, state: Started, server: ServerView) -> Push | None:
        if state.started:
            return None
        state.started = True
        zero = None if push.payload is None else server.params.new_zeros(server.params.shape)
        return replace(push, samples=0, payload=None, replaced=zero)
