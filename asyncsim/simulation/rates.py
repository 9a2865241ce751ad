"""The learning rate of a shard, as the schedule has it now and later."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.policies import Policy, Schedule
from asyncsim.simulation.length import RunLength
from asyncsim.simulation.parameters import Parameters
from asyncsim.simulation.progress import WorkerProgress

if TYPE_CHECKING:
    from torch import Tensor


class Rated(Parameters):
    """Parameters whose learning rate ``lr`` is the step rule's times the factor of the schedule, by updates, samples or virtual
    time, whatever limits the run. ``lr_max`` is the largest so far."""

    def __init__(
        self, params: Tensor | None, policy: Policy, schedule: Schedule, length: RunLength, progress: WorkerProgress,
        samples: int, scheduled: bool,
    ) -> None:  # fmt: skip
        super().__init__(params)
        self.policy = policy
        self.schedule = schedule
        self.scheduled = scheduled  # False: the schedule drives the workers' local learning rate, not the server's
        self._varies = scheduled and not schedule.constant  # the server's learning rate
        self.length = length
        self.progress = progress
        self.samples_per_push = self.samples_per_batch = samples  # until somebody says what a batch has
        self.samples = 0
        self.lr = policy.step.lr
        self.lr_max = 0.0

    @property
    def num_workers(self) -> int:
        return self.progress.num_workers

    def rate_ahead(self, updates: int, pushes: int) -> float:
        """The learning rate of the update that is ``updates`` from now (1: the next), when ``pushes`` more will have come. A
        schedule that goes by virtual time is asked at the time of the last update, as nobody knows when they will come."""
        lr = self.policy.step.lr
        if not self._varies:
            return lr
        return lr * self._factor(self.version + updates, self.samples + pushes * self.samples_per_push, self._updated)

    def _set_rate(self, samples: int, now: int) -> None:
        """Set the learning rate for an update by ``samples`` more samples."""
        lr = self.policy.step.lr
        if self._varies:
            lr *= self._factor(self.version + 1, self.samples + samples, now)
        self.lr = lr
        if lr > self.lr_max:
            self.lr_max = lr

    def _factor(self, updates: int, samples: int, now: int) -> float:
        updates -= self.progress.undone
        return self.schedule.factor(min(1.0, self.length.done(updates, samples, now)), updates, self.num_workers)
