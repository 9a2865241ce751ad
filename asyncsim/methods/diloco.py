"""DiLoCo: workers take many AdamW steps of their own, and an outer Nesterov step takes the mean of what they came to::

    worker i, in every round:  x <- s;   local_steps times, with g = g(x) and eta = local_lr * f:
                                   m <- b1 * m + (1 - b1) * g;   v <- b2 * v + (1 - b2) * g^2
                                   x <- (1 - eta * wd) * x - eta * (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)
                               push  D_i = s - x
    server:                    theta <- outer step with the mean of the D_i;   sgd with lr 0.7, momentum 0.9 and nesterov

A. Douillard et al. 2023, "DiLoCo: Distributed Low-Communication Training of Language Models" (arXiv 2311.08105). The rule and the
outer rates are from secondary equation sheets, the paper's text was not at hand.

Order: all read one version, a worker that has delivered waits, the last of the round completes the mean. ``f`` is the schedule's
at the read, ``k`` counts the steps that m and v have seen. They go on from round to round, and are lost with a worker that
goes down. With ``fresh`` they begin at zero in every round, as in the public code of asynchronous local SGD.
The program ``local_adamw`` is for every method whose workers take steps: asynchronous DiLoCo is ``fedbuff``, ``delayed_nesterov``
or ``momentum_look_ahead`` with it.
Left out: weights by data size, gradient clipping, a schedule of the worker's own within a round.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.messages import Gradient
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import Accumulate, Moments, StepRule
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Overlapping, programs

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.call import Call
    from asyncsim.messages import Snapshot
    from asyncsim.streams import Streams
    from asyncsim.tasks.task import Task


@dataclass(frozen=True)
class AdamWSteps:
    """A kernel: ``steps`` steps of AdamW (Loshchilov and Hutter 2019) from the snapshot; the result is ``s - x``, shape ``(P,)``.
    Carried on, where the state is kept: the moments."""

    steps: int
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    carries: bool
    first: int | None = None  # the first of its batches, where rounds have unequal numbers of them

    def __call__(
        self, task: Task, streams: Streams, params: Tensor, worker: int, step: int, carry: Moments | None = None
    ) -> Gradient:
        from asyncsim.engine.kernels import gradient

        moments, x, loss, statistics = Moments(), params, params.new_zeros(()), None
        if carry is not None and carry.first is not None and carry.second is not None:
            moments = Moments(carry.steps, carry.first.clone(), carry.second.clone())
        first = self.first_batch(step)
        for index in range(first, first + self.steps):
            result = gradient(task, streams, x, worker, index)
            x = self._step(x, moments, result.gradient, self.lr)
            loss, statistics = loss + result.loss, result.statistics
        return Gradient(params - x, loss / self.steps, statistics, moments if self.carries else None)

    def first_batch(self, step: int) -> int:
        """The first batch of a round."""
        return step * self.steps if self.first is None else self.first

    @property
    def call_key(self) -> Hashable:
        return self.steps, self.betas, self.eps, self.weight_decay

    def batched(self, call: Call) -> tuple[Tensor, Tensor]:
        """The steps of all jobs of a call together, where no state is kept. Each job has a learning rate of its own."""
        x = call.params
        lr = x.new_tensor([job.kernel.lr for job in call.jobs]).unsqueeze(1)
        moments, total = Moments(), x.new_zeros(len(x))
        for index in range(self.steps):
            gradients, losses = call.gradients(x, [job.kernel.first_batch(job.step) + index for job in call.jobs])
            x = self._step(x, moments, gradients, lr)
            total = total + losses
        return call.params - x, total / self.steps

    def _step(self, x: Tensor, moments: Moments, gradient: Tensor, lr: float | Tensor) -> Tensor:
        """``x`` after one more step, a new tensor; the ``moments`` are changed in place."""
        moments.accumulate(*self.betas, gradient)
        return x * (1 - lr * self.weight_decay) - moments.direction(*self.betas, self.eps) * lr


class AdamWSettings(Spec):
    """The fields of the program that a method repeats."""

    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    fresh: bool = False


@programs.register("local_adamw")
class LocalAdamW(AdamWSettings, Overlapping):
    """``steps`` AdamW steps on the worker, then the difference is pushed as a pseudo-gradient (DiLoCo, Douillard et al. 2023).

    Each step takes one batch and one compute time. ``lr`` is the worker's learning rate; the scenario's schedule multiplies it
    (as of the read). The moments go on from round to round, unless every round begins with ``fresh`` ones.
    """

    steps: int = Field(default=4, ge=1)
    lr: float = Field(default=0.001, ge=0)

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return super().needs | Need.LOCAL_RATE | (Need.NOTHING if self.fresh else Need.WORKER_STATE)

    @property
    def batches(self) -> int:
        return self.steps

    def kernel(self, snapshot: Snapshot) -> Any:
        betas = self.beta1, self.beta2
        return AdamWSteps(self.steps, self.lr * snapshot.lr_factor, betas, self.eps, self.weight_decay, not self.fresh)


@methods.register("diloco")
class DiLoCo(AdamWSettings, Method):
    """DiLoCo, Douillard et al. 2023, synchronous: many AdamW steps at every worker, then one outer step with the mean. For the
    optimizer ``{kind: sgd, lr: 0.7, momentum: 0.9, nesterov: true}``."""

    local_steps: int = Field(default=8, ge=1)
    local_lr: float = Field(default=0.001, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        program = self.part(LocalAdamW, steps=self.local_steps, lr=self.local_lr, overlap=False)
        return Bundle((Accumulate(members=True),), optimizer, BSP(), program)
