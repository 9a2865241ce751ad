"""Transforms that depend on the staleness alone."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.policies.transform import Transform, policies
from asyncsim.registry import Spec


class StalenessSettings(Spec):
    """Which function of the staleness, and its numbers: of the transform, and of the method that holds one."""

    rule: Literal["inverse", "inverse_plus_one", "polynomial", "exponential", "hinge", "delay_adaptive"] = "inverse"
    power: float = Field(default=0.5, ge=0)
    rate: float = Field(default=0.1, ge=0)
    after: int = Field(default=4, ge=0)


@policies.register("staleness_aware")
class StalenessAware(StalenessSettings, Transform):
    """Divide the update by a function of its staleness ``tau``.

    ==================  ==========================================  ====================================================
    ``rule``            divisor                                     source
    ==================  ==========================================  ====================================================
    ``inverse``         ``max(1, tau)``                             Zhang, Gupta, Lian, Liu 2016, eq. 3 (tau = 0, 1 alike)
    ``inverse_plus_one``  ``tau + 1``                               common variant
    ``polynomial``      ``(tau + 1) ** power``                      Xie et al. 2019 (FedAsync), Nguyen et al. 2022 (power 0.5)
    ``exponential``     ``exp(rate * tau)``                         Chan and Lane 2014
    ``hinge``           ``1`` up to ``after``, then ``rate * (tau - after) + 1``  Xie et al. 2019
    ``delay_adaptive``  ``max(N, tau + 1) / N``                     Mishchenko et al. 2022
    ==================  ==========================================  ====================================================
    """

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        divisor = self.divisor(push.staleness, server.num_workers)
        if divisor != 1.0:
            push.penalise(divisor)
        return push

    def divisor(self, tau: int, num_workers: int) -> float:
        """The penalty of a push of staleness ``tau`` (versions)."""
        match self.rule:
            case "inverse":
                return float(max(1, tau))
            case "inverse_plus_one":
                return tau + 1.0
            case "polynomial":
                return (tau + 1.0) ** self.power
            case "exponential":
                return math.exp(min(self.rate * tau, 700.0))
            case "hinge":
                return 1.0 if tau <= self.after else self.rate * (tau - self.after) + 1.0
            case "delay_adaptive":
                return max(num_workers, tau + 1) / num_workers


@policies.register("drop_stale")
class DropStale(Transform):
    """Discard a push whose staleness exceeds ``bound`` (versions); its gradient is never computed.

    Bound 0 keeps only gradients of the current parameters (Rennala, K-sync); bound ``R - 1`` is Ringmaster's rule.
    """

    needs: ClassVar[Need] = Need.DROPS
    bound: int = Field(ge=0)

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        return push if push.staleness <= self.bound else Verdict.DROPPED
