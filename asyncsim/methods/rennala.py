"""Rennala SGD: the mean of ``batch`` gradients computed at the current parameters, from whomever::

    tau > 0:  ignored
    tau = 0:  collected; with the B-th   theta <- theta - lr * (1 / B) * sum of the B gradients        B = batch

A. Tyurin, P. Richtarik 2023. The rule is recalled (high confidence), not checked against the paper's text.

Order: staleness is looked at when a push arrives, before it is collected. Nobody waits: a worker reads again at once, so a fast
one may give several gradients to one update. In the theory ``batch`` follows from noise and target accuracy; here you choose it.
Differs from the paper: a worker whose work became stale finishes it, and it is ignored on arrival; to call it back add
``consistency: {kind: asp, recall_after: 1}``.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, DropStale, StepRule
from asyncsim.simulation.programs import Replica


@methods.register("rennala")
class Rennala(Method):
    """Rennala SGD, Tyurin and Richtarik 2023: average ``batch`` gradients computed at the current parameters, from whomever;
    stale ones are ignored."""

    batch: int = Field(default=4, ge=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((DropStale(bound=0), Accumulate(count=self.batch)), optimizer, ASP(), Replica())
