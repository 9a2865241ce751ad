"""K-sync SGD: a round ends with the first ``k`` gradients computed on its parameters::

    theta <- theta - lr * mean of the first k gradients of the round        tau = 0

S. Dutta et al. 2018. The rule is recalled, not checked against the paper's text.

Order: the ``k``-th gradient of a round completes the mean and the update; then the others are called back, drop their work, and
all read the next version. With ``cancel: false`` they finish first, and what they send is dropped as stale (and never computed).
A round needs ``min(k, workers that have not left for good)`` gradients.
Of the same family K-async is ``adasync`` with ``weight: 0``; K-batch-sync (close to ``rennala``) is left out.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, DropStale, StepRule
from asyncsim.simulation.programs import Replica


@methods.register("k_sync")
class KSync(Method):
    """K-sync SGD, Dutta et al. 2018: a round ends with the first ``k`` gradients on its parameters.

    ``cancel`` (the paper's form, as recalled): the others drop their work and start on the new parameters. Without it they finish
    first, and what they send is dropped as stale.
    """

    k: int = Field(ge=1)
    cancel: bool = True

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.k > num_workers:
            raise ValueError(f"K-sync needs 1 <= k <= workers ({num_workers}), not {self.k}")
        first = (DropStale(bound=0), Accumulate(count=self.k, members=True))
        return Bundle(first, optimizer, BSP(cancel=self.cancel), Replica())
