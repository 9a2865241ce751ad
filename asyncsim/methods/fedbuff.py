"""FedBuff: the server averages ``B`` model differences, each weighted by its staleness, into one update::

    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x
    server:  theta <- theta - lr * (1 / B) * sum of (1 + tau)^(-power) * D              after every B pushes, B = buffer

J. Nguyen et al. 2022. The rule is recalled (high confidence), ``power: 0.5`` included. FLSim, a public code, differs: it sums by
default, and its weight is constant unless an exponent is given.

Order: a difference is weighted by the staleness of its own arrival, then buffered; the ``B``-th completes the update. A worker
reads again at once. ``factor`` is the schedule's at the read, ``lr`` the optimiser's and constant.
Differs from the paper: with Adam at the server the weights divide the finished update (a rule of ours).
Left out: secure aggregation, clipping, sampling of clients, weights by data size, applying a part-filled buffer at the end.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import Accumulate, StalenessAware, StepRule


@methods.register("fedbuff")
class FedBuff(LocalMethod):
    """FedBuff, Nguyen et al. 2022: average ``buffer`` model differences, each weighted by ``(1 + tau) ** -power``."""

    buffer: int = Field(default=4, ge=1)
    power: float = Field(default=0.5, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        weigh = StalenessAware(rule="polynomial", power=self.power)
        return Bundle((weigh, Accumulate(count=self.buffer)), optimizer, ASP(), self.local())
