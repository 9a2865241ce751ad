"""DANA-DC: delay compensation in front of DANA-Zero's momentum of each worker::

    g     <- g + strength * g * g * (theta - s)              s: the look-ahead that the worker was handed
    v_i   <- momentum * v_i + g + weight_decay * theta       i: the worker that pushed
    theta <- theta - lr * v_i
    a worker that reads is handed  theta - lr * momentum * sum_j v_j

I. Hakimi, S. Barkai, M. Gabel, A. Schuster 2019 (arXiv 1907.11612), with DC-ASGD-c of S. Zheng et al., ICML 2017. The equations
and the strength of 2 are from a public script of unnamed origin (a secondary source).

Order: the gradient is compensated with the parameters as the arrival finds them; weight decay, of the server's parameters, is
added after it and is not compensated; then DANA-Zero (``dana``).
A worker alone is compensated too: what it read is a look-ahead, and not ``theta``. Differs from the script: see ``dana``.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.methods.dana import worker_momentum
from asyncsim.methods.dc_asgd import DelayCompensation
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule
from asyncsim.simulation.programs import Replica


@methods.register("dana_dc")
class DanaDc(Method):
    """DANA-DC, Hakimi et al. 2019: constant delay compensation of ``strength`` in front of DANA-Zero."""

    strength: float = Field(default=2.0, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        compensate = DelayCompensation(strength=self.strength, adaptive=False)
        return Bundle((compensate,), worker_momentum(optimizer, True), ASP(), Replica())
