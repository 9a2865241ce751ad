"""Collect pushes and pass on their mean as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.mean import mean_push
from asyncsim.policies.transform import State, Transform, policies

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("accumulate")
class Accumulate(Transform):
    """Average ``count`` pushes, whoever sent them, into one update (n-softsync, FedBuff, K-sync, Rennala).

    Without ``count`` it waits for ``each`` pushes of every member (one: synchronous SGD). With ``members`` (set by the barrier
    methods) it is complete as well when every member has pushed, so a worker that leaves for good holds nobody up; what that one
    had pushed before counts. Each push keeps its own penalty ``p``: the update is ``(1/count) * sum(direction / p)``. ``total``
    applies the sum of the gradients instead of their mean (ADL's code). What is buffered when the run ends is not applied.
    """

    count: int | None = Field(default=None, ge=1)
    members: bool = False
    each: int = Field(default=1, ge=1)
    total: bool = False

    @property
    def needs(self) -> Need:  # type: ignore[override]
        everyone = Need.EVERYONE if self.count is None else Need.NOTHING
        return Need.BUFFERS | Need.MEANS | everyone

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"buffer": []}

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        state["buffer"].append(push)
        return self.settle(state, server) or Verdict.BUFFERED

    def settle(self, state: State, server: ServerView) -> Push | None:
        buffer = state["buffer"]
        if not buffer or not self.complete(buffer, server):
            return None
        state["buffer"] = []
        if len(buffer) == 1:
            return buffer[0]
        mean = mean_push(buffer)
        if self.total and mean.payload is not None:
            mean.replaced = mean.gradient * len(buffer)
        return mean

    def complete(self, buffer: list[Push], server: ServerView) -> bool:
        """Is this all there is to wait for?"""
        if self.count is not None and len(buffer) >= self.count:
            return True
        if self.count is not None and not self.members:
            return False
        needed = self.each * server.members
        if len(buffer) < needed:  # the count below is not for every push of a large fleet
            return False
        return sum(push.worker not in server.departed for push in buffer) >= needed
