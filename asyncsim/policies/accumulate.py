"""Collect pushes and pass on their mean as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.policies.mean import mean_push
from asyncsim.policies.push import Push, ServerView, Verdict
from asyncsim.policies.transform import State, Transform, policies

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("accumulate")
class Accumulate(Transform):
    """Average ``count`` pushes, whoever sent them, into one update (n-softsync, FedBuff, K-sync, Rennala).

    Without ``count`` it waits for one push of every member (synchronous SGD). With ``members`` (set by the barrier methods) the
    number needed never exceeds the workers still there, so a worker that leaves for good holds nobody up. Each push keeps
    its own penalty ``p``: the update is ``(1/count) * sum(direction / p)``. What is buffered when the run ends is not applied.
    """

    count: int | None = Field(None, ge=1)
    members: bool = False

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return {"buffer": []}

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        state["buffer"].append(push)
        return self.settle(state, server) or Verdict.BUFFERED

    def settle(self, state: State, server: ServerView) -> Push | None:
        buffer = state["buffer"]
        if not buffer or len(buffer) < self.needed(server):
            return None
        state["buffer"] = []
        return buffer[0] if len(buffer) == 1 else mean_push(buffer)

    def needed(self, server: ServerView) -> int:
        """Pushes that complete the buffer now."""
        if self.count is None:
            return max(1, server.members)
        return max(1, min(self.count, server.members)) if self.members else self.count
