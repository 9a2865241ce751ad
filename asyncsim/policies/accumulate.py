"""Collect pushes and pass on their mean as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.policies.mean import mean_push
from asyncsim.policies.push import Push, ServerView, Verdict
from asyncsim.policies.transform import State, Transform, policies

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("accumulate")
class Accumulate(Transform):
    """Average ``count`` pushes, whoever sent them, into one update (n-softsync, FedBuff, K-sync, Rennala).

    Without ``count`` it waits for one push of every member (synchronous SGD). With ``members`` (set by the barrier methods) it
    is complete as well when every member has pushed, so a worker that leaves for good holds nobody up; what that one had pushed
    before counts. Each push keeps its own penalty ``p``: the update is ``(1/count) * sum(direction / p)``. What is buffered when
    the run ends is not applied.
    """

    averages: ClassVar[bool] = True
    count: int | None = Field(None, ge=1)
    members: bool = False

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
        return buffer[0] if len(buffer) == 1 else mean_push(buffer)

    def complete(self, buffer: list[Push], server: ServerView) -> bool:
        """Is this all there is to wait for?"""
        if self.count is not None and len(buffer) >= self.count:
            return True
        if self.count is not None and not self.members:
            return False
        if len(buffer) < server.members:  # the count below is not for every push of a large fleet
            return False
        return sum(push.worker not in server.departed for push in buffer) >= server.members
