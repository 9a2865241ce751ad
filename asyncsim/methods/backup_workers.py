"""Synchronous SGD with backup workers: the slowest ``b`` of every round are not waited for::

    theta <- theta - lr * mean of the first N - b gradients of the round    tau = 0         b = backups

J. Chen, X. Pan et al. 2016 (arXiv 1604.00981, 1702.05800). The idea is the papers'; the details of the rule are recalled (high
confidence).

Order: the ``(N - b)``-th gradient of a round completes the mean and the update; then the slowest are called back, and all read
the next version. ``N`` includes the backups. The number needed stays ``N - b`` while that many workers are left.
Differs from the papers: there a late gradient is dropped when it arrives (``cancel: false`` here). By default its work is called
back, so a straggler costs one round at most.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, DropStale, StepRule
from asyncsim.simulation.programs import Replica


@methods.register("backup_workers")
class BackupWorkers(Method):
    """Synchronous SGD with ``backups`` spare workers, Chen et al. 2016: the slowest ``backups`` of every round are dropped."""

    backups: int = Field(default=1, ge=0)
    cancel: bool = True

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.backups >= num_workers:
            raise ValueError(f"backup workers must be fewer than the workers ({num_workers}), not {self.backups}")
        first = (DropStale(bound=0), Accumulate(count=num_workers - self.backups, members=True))
        return Bundle(first, optimizer, BSP(cancel=self.cancel), Replica())
