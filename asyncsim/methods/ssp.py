"""Stale synchronous parallel: nobody runs more than ``bound`` rounds ahead of the slowest::

    clock of a worker = pushes that it has delivered
    a worker at clock c may read for its next round only if  c - slowest clock <= bound

Q. Ho et al. 2013. The rule is recalled (high confidence), not checked against the paper's text.

Order: every gradient is applied as it arrives, as one update; whoever is too far ahead waits before it reads, not before it
pushes.
Differs from the paper: there is one copy of the parameters and no cache at a worker, so a read gets everything that has been
applied, not only what the bound guarantees; updates are steps of the optimiser, not plain additions. The slowest clock is that of
the workers that are up; one that comes back begins at it, if its own is behind.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import SSP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule
from asyncsim.simulation.programs import Replica


@methods.register("ssp")
class SspMethod(Method):
    """Stale synchronous parallel, Ho et al. 2013: nobody runs more than ``bound`` rounds ahead of the slowest."""

    bound: int | None = Field(default=3, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, SSP(bound=self.bound), Replica())
