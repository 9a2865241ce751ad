"""MindFlayer SGD: in every round each worker makes so many trials, and gives up those that take too long::

    worker i:  trials times:  a gradient at theta, given up after ``limit``           finished with probability p
    server:    theta <- theta - lr * (1 / B) * sum of all finished gradients          B = share * trials * N,   share = p

MindFlayer SGD (submitted to ICLR 2025), for compute times with heavy tails. The rule is from a review, not from the paper's text.

Order: all read one version; each makes its trials one after the other and sends their sum; who has sent waits; the last
completes the update. A trial that takes exactly ``limit`` is finished. A worker of whose trials none has finished sends zeros, so
the update is unbiased for the right ``share``, which is yours to give: the mean over the workers of the probability to finish.
Every trial has a batch and a draw of its own, which one that is given up uses up, too. Without ``limit`` and with one trial it is
synchronous SGD.
Left out: limits and numbers of trials that differ among workers. ``samples`` count every trial.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from asyncsim.consistency import BSP
from asyncsim.messages import Gradient
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, StepRule
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Program, programs
from asyncsim.units import PositiveSeconds, nanoseconds

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.call import Call
    from asyncsim.simulation.verbs import Verbs
    from asyncsim.simulation.worker import Worker
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


class TrialSettings(Spec):
    """The fields of the program, and of the method that holds one."""

    trials: int = Field(default=1, ge=1)
    limit: PositiveSeconds | None = None
    share: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _all_finish_without_a_limit(self) -> TrialSettings:
        if self.limit is None and self.share < 1:
            raise ValueError(f"without a `limit` all trials finish: `share` is 1, not {self.share:g}")
        return self


@dataclass(frozen=True)
class FinishedTrials:
    """A kernel: the sum of the gradients of those of ``trials`` batches that have ``finished``, over ``divisor``, shape ``(P,)``.
    The loss is their mean, NaN where there is none."""

    trials: int
    finished: tuple[int, ...]
    divisor: float
    carries: ClassVar[bool] = False

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
        from asyncsim.engine.kernels import gradient

        results = [gradient(task, streams, params, worker, step * self.trials + index) for index in self.finished]
        if not results:
            return Gradient(params.new_zeros(params.shape), params.new_full((), float("nan")), None)
        total = sum((each.gradient for each in results[1:]), start=results[0].gradient)
        loss = sum((each.loss for each in results[1:]), start=results[0].loss) / len(results)
        return Gradient(total / self.divisor, loss, results[-1].statistics)

    @property
    def call_key(self) -> FinishedTrials:
        return self

    def batched(self, call: Call) -> tuple[Tensor, Tensor]:
        """The same of several workers, all of whom have finished these trials."""
        total, loss = call.params.new_zeros(call.params.shape), call.params.new_zeros(len(call.jobs))
        for index in self.finished:
            gradients, losses = call.gradients(call.params, [job.step * self.trials + index for job in call.jobs])
            total, loss = total + gradients, loss + losses
        return total / self.divisor, loss / len(self.finished) if self.finished else loss.fill_(float("nan"))


@programs.register("trials")
class Trials(TrialSettings, Program):
    """``trials`` gradients at one snapshot, each given up after ``limit`` virtual seconds; the sum of the others over ``share *
    trials`` is pushed (MindFlayer SGD)."""

    computes_at_once: ClassVar[bool] = False

    @property
    def batches(self) -> int:
        return self.trials

    def round(self, sim: Verbs, worker: Worker) -> Generator[Any, Any, None]:
        snapshot = yield from self.begin(sim, worker)
        limit = None if self.limit is None else nanoseconds(self.limit)
        first, finished = worker.step * self.trials, []
        for index in range(first, first + self.trials):
            if (yield from sim.compute(worker, worker.times[index], limit=limit)):
                finished.append(index)
        work = sim.submit(worker, snapshot, lambda _: self.finished(finished, first))
        yield from sim.upload(worker)
        yield from sim.push(worker, snapshot, work)

    def finished(self, indices: list[int], first: int) -> Any:
        """The kernel for the trials that have finished, of those that begin with the ``first`` batch."""
        from asyncsim.engine.kernels import gradient

        if self.trials == self.share == len(indices) == 1:
            return gradient
        return FinishedTrials(self.trials, tuple(index - first for index in indices), self.share * self.trials)


@methods.register("mindflayer")
class MindFlayer(TrialSettings, Method):
    """MindFlayer SGD, 2025: in every round each worker makes ``trials`` gradients and gives up those that take longer than
    ``limit``; ``share`` is the probability that one finishes."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((Accumulate(members=True),), optimizer, BSP(), self.part(Trials))
