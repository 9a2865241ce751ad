"""LAGA: the mean gradient of a round travels while the next round is computed, of so many batches that nobody waits for it::

    round k, worker s:   g_s(k) <- mean over `accumulate` batches of the gradients at x(k)
                         launch the reduction of  g(k) = mean over the workers of g_s(k)
                         wait for the reduction that was launched in round k - 1
                         x(k + 1) <- x(k) - lr * d(g(k - 1))          d: weight decay and momentum;  g(-1) = 0

I. Hakimi, R. Zamir Aviv, K. Y. Levy, A. Schuster, ICDM 2021 (doi 10.1109/ICDM51629.2021.00027). The rule was read in the authors'
benchmark code (github.com/idoh/LAGA-Benchmark), not in the paper.

Order: launch, wait, step. The first step is that of a zero gradient, on which momentum and weight decay act (``zero_start``). One
reduction is under way at a time, so a round takes the longer of computing and reducing: nobody waits where ``accumulate`` batches
take as long as a reduction.
Differs from the code: the step is made when a reduction has come, also while batches are computed, and a worker reads the result
when it has launched its own; no worker can tell the difference. Every worker sends its mean, and the mean over the workers is
taken where they arrive; with ``cluster.all_reduce`` that takes the time of an all-reduce.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.messages import Gradient
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, StepRule, ZeroStart
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Overlapping, programs

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.call import Call
    from asyncsim.messages import Snapshot
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


@dataclass(frozen=True)
class MeanGradient:
    """A kernel: the mean of the gradients of ``batches`` batches at one point, shape ``(P,)``."""

    batches: int
    carries: ClassVar[bool] = False

    @property
    def call_key(self) -> int:
        return self.batches

    def __call__(self, task: Task, streams: Streams, params: Tensor, worker: int, step: int) -> Gradient:
        from asyncsim.engine.kernels import gradient

        first = step * self.batches
        total, loss, statistics = gradient(task, streams, params, worker, first)[:3]
        for index in range(first + 1, first + self.batches):
            more = gradient(task, streams, params, worker, index)
            total, loss = total + more.gradient, loss + more.loss
            statistics = None if statistics is None or more.statistics is None else statistics + more.statistics
        return Gradient(total / self.batches, loss / self.batches, None if statistics is None else statistics / self.batches)

    def batched(self, call: Call) -> tuple[Tensor, Tensor]:
        """The same of all jobs of a call together, in ``batches`` passes."""
        passes = [
            call.gradients(call.params, [job.step * self.batches + index for job in call.jobs]) for index in range(self.batches)
        ]
        total, loss = passes[0]
        for gradients, losses in passes[1:]:
            total, loss = total + gradients, loss + losses
        return total / self.batches, loss / self.batches


class Accumulation(Spec):
    """``accumulate``: the batches of a round, all at the point that was read."""

    accumulate: int = Field(default=1, ge=1)


@programs.register("accumulating")
class Accumulating(Accumulation, Overlapping):
    """The mean gradient of ``accumulate`` batches, which are computed one after the other at the same parameters."""

    @property
    def batches(self) -> int:
        return self.accumulate

    def kernel(self, snapshot: Snapshot) -> Any:
        return super().kernel(snapshot) if self.accumulate == 1 else MeanGradient(self.accumulate)


@methods.register("laga")
class Laga(Accumulation, Method):
    """LAGA, Hakimi et al. 2021: rounds of ``accumulate`` batches, whose mean travels while the next round is computed."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        transforms = (Accumulate(members=True), ZeroStart())
        return Bundle(transforms, optimizer, BSP(lag=1), self.part(Accumulating, overlap=True))
