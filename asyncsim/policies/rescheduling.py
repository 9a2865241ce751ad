"""PipeMare's learning-rate rescheduling: late gradients are slowed down at first, and less and less as the run goes on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from asyncsim.policies.push import Push, ServerView, Verdict
from asyncsim.policies.transform import State, Transform, policies


@policies.register("rescheduling")
class Rescheduling(Transform):
    """Divide the update by ``tau ** p`` with ``p = 1 - min(n / updates, 1)`` at version ``n``: technique T1 of PipeMare, Yang et
    al. 2021 (arXiv 1910.05124), annealed from the whole division to none over the first ``updates`` of a shard.

    ``tau`` is at least 1, in versions. ``observed``: the staleness of the push. ``paper``: ``(2 (K - k) + 1) / micro_batches``
    for stage ``k`` of ``K`` (from 1), the staleness of a pipeline whose forward and backward passes take a slot each.
    """

    updates: int = Field(1000, ge=1)
    tau: Literal["observed", "paper"] = "observed"
    micro_batches: int = Field(1, ge=1)

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        divisor = self.divisor(push.staleness, server)
        if divisor != 1.0:
            push.penalise(divisor)
        return push

    def divisor(self, staleness: int, server: ServerView) -> float:
        """The penalty of a push of this staleness (versions)."""
        slots = 2 * (server.num_stages - 1 - server.stage) + 1
        tau = slots / self.micro_batches if self.tau == "paper" else float(staleness)
        return max(tau, 1.0) ** (1.0 - min(server.version / self.updates, 1.0))
