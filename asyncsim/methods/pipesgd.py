"""Pipe-SGD: synchronous rounds whose mean gradient travels while the next round is computed, and is applied a round late::

    round k:   g(k) <- mean over the workers of their gradients at x(k), launched
               x(k + 1) <- x(k) - lr * d(g(k - 1))          from round `warmup` on;  g(warmup - 1) = 0 there
               x(k + 1) <- x(k) - lr * d(g(k))              before

Y. Li et al. 2018. LAGA with one batch a round, after some synchronous rounds; the warm-up is recalled (high confidence), and that
its first step is that of a zero gradient is LAGA's rule. Delayed parameter updates of ZeRO-Offload are the same, with the step on
the host.

Order: as in `laga`. In round `warmup` the first gradient is launched, and momentum and weight decay step alone.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, StepRule, ZeroStart
from asyncsim.simulation.programs import Replica


@methods.register("pipesgd")
class PipeSgd(Method):
    """Pipe-SGD, Li et al. 2018: the mean gradient of a round travels while the next one is computed, after ``warmup`` synchronous
    rounds."""

    warmup: int = Field(default=0, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((Accumulate(members=True), ZeroStart()), optimizer, BSP(lag=1, warmup=self.warmup), Replica(overlap=True))
