"""What policies see of a shard besides its parameters and counts: who its workers are, and where its step rule stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.messages import Push, ServerView, Snapshot
from asyncsim.simulation.saving import kept

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.policies import Policy
    from asyncsim.simulation.progress import WorkerProgress


class Seen(ServerView):
    """The part of a ``ServerView`` that is asked of the policy and of the workers' progress."""

    policy: Policy
    progress: WorkerProgress
    shard_sizes: tuple[int, ...]
    """Training samples of each worker, where each has a shard of its own."""

    @property
    def members(self) -> int:
        return self.progress.members

    @property
    def departed(self) -> frozenset[int]:
        return self.progress.departed

    def velocity(self) -> Tensor | None:
        return self.policy.velocity(self)

    def foresees(self, until: int) -> bool:
        return self.progress.foresees(until)

    def ahead(self, gradient: Tensor) -> Tensor:
        push = Push(0, 0, Snapshot(self.params, self.version, self.now, 1.0), 0, self.now, 0, None, replaced=gradient.clone())
        direction = self.policy.step.direction(push, kept(self.policy.state.step), self)
        return self.params.add(direction, alpha=-self.lr)

    def data_weight(self, worker: int) -> float:
        sizes = self.shard_sizes
        return sizes[worker] * len(sizes) / sum(sizes) if sizes else 1.0
