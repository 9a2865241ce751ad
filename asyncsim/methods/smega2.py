"""SMEGA2: one momentum that is refreshed once in a cycle of ``N`` updates, and an estimate of where it will lead::

    d     = g + weight_decay * theta
    k     <- (k + 1) mod N;   A <- A + d                     k, A, m are 0 at first; N = cycle
    step  = d + momentum * m
    k = 0:  m <- momentum * m + (1 - damping) * A / N;   A <- 0
    theta <- theta - lr * step

    a worker that reads is handed
    naive      theta - lr * momentum * N * m
    advanced   theta - lr * momentum * ((N + k * (momentum - 1)) * m + (k / N) * A)

R. Cohen, I. Hakimi, A. Schuster, "SMEGA2: Distributed Asynchronous Deep Neural Network Training With a Single Momentum Buffer",
ICPP 2022 (doi 10.1145/3545008.3545010). The rule, both estimates and the defaults were read in the public code.

Order: the step uses the momentum as it was before the arrival refreshes it; then the worker reads. The server's memory does not
grow with ``N``. The cycle counts updates, whoever sent them: a fast worker may fill it alone.
Ours: the rate in the estimate is that of the last arrival before the version was first handed out. Each shard of the parameters
has a momentum, a sum and a count of its own. Evaluation is at ``theta``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import HeavyBall, StepRule, Velocity, heavy_ball
from asyncsim.policies.step_rule import buffer, optimizers
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


class CycleSettings(Spec):
    """The fields of the step rule, and of the method that holds one. ``cycle`` None is the number of workers."""

    estimate: Literal["advanced", "naive"] = "advanced"
    damping: float = Field(default=0.0, ge=0, lt=1)
    cycle: int | None = Field(default=None, ge=1)


@dataclass(slots=True)
class CyclicVelocity(Velocity):
    """The momentum, the sum of the gradients of the cycle so far, shape ``(P,)`` each, and how many those are."""

    sum: Tensor | None = None
    count: int = 0


@optimizers.register("cyclic_momentum")
class CyclicMomentum(CycleSettings, HeavyBall):
    """SMEGA2's step rule: one momentum, refreshed once in ``cycle`` updates with their mean, and an estimate of the parameters at
    the end of a cycle for those who read; Cohen, Hakimi, Schuster 2022. Momentum 0 is plain SGD.
    """

    def init(self, params: Tensor | None, num_workers: int) -> CyclicVelocity:
        return CyclicVelocity()

    def momentum_step(self, d: Tensor, push: Push, state: CyclicVelocity, server: ServerView) -> Tensor:
        step = d if state.velocity is None else state.velocity.mul(self.momentum).add_(d)
        state.sum = d.clone() if state.sum is None else state.sum.add_(d)
        state.count += 1
        cycle = self.cycle or server.num_workers
        if state.count >= cycle:
            mean = state.sum.mul_((1.0 - self.damping) / cycle)
            state.accumulate(self.momentum, mean)
            state.sum, state.count = None, 0
        return step

    def velocity(self, state: CyclicVelocity, server: ServerView) -> Tensor | None:
        return buffer(self.momentum, state.velocity, server)

    def view(self, params: Tensor, state: CyclicVelocity, server: ServerView, worker: int) -> Tensor:
        cycle, k = self.cycle or server.num_workers, state.count
        advanced = self.estimate == "advanced"
        ahead = params
        if state.velocity is not None:
            steps = cycle + k * (self.momentum - 1.0) if advanced else cycle
            ahead = ahead.add(state.velocity, alpha=-server.lr * self.momentum * steps)
        if state.sum is not None and advanced:
            ahead = ahead.add(state.sum, alpha=-server.lr * self.momentum * (k / cycle))
        return ahead


@methods.register("smega2")
class Smega2(CycleSettings, Method):
    """SMEGA2, Cohen, Hakimi, Schuster 2022: one momentum for all workers, refreshed once in a cycle of updates, and workers read
    an estimate of where it leads. The momentum is the optimizer's (``sgd``)."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), self.part(CyclicMomentum, **heavy_ball(optimizer, "SMEGA2")), ASP(), Replica())
