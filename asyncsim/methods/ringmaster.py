"""Ringmaster ASGD: gradients of staleness ``R`` or more are discarded::

    tau <  R:   theta <- theta - lr * g                                     R = threshold
    tau >= R:   discarded; the worker reads the newest parameters

A. Maranjyan et al. 2025. The rule is recalled (high confidence); a secondary source has ``<=`` in place of ``<``.

Order: staleness is looked at when a push arrives; a discarded gradient is never computed and makes no version. With ``stops``
work in flight is abandoned at the update that makes its staleness ``R``, and its worker reads anew.
Left out: the choice of threshold and rate from the problem's constants; both are yours.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import DropStale, StepRule
from asyncsim.simulation.programs import Replica


@methods.register("ringmaster")
class Ringmaster(Method):
    """Ringmaster ASGD, Maranjyan et al. 2025: gradients of staleness ``threshold`` or more are discarded.

    ``stops``: work that has become that stale is not even finished.
    """

    threshold: int = Field(default=8, ge=1)
    stops: bool = False

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.stops and self.consistency is not None:
            raise ValueError("`stops` is a consistency rule (asp with recall_after) and cannot be combined with another one")
        consistency = ASP(recall_after=self.threshold if self.stops else None)
        return Bundle((DropStale(bound=self.threshold - 1),), optimizer, consistency, Replica())
