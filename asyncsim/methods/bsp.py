"""Synchronous SGD, also called bulk synchronous parallel, SSGD, hardsync (Zhang et al. 2016, arXiv 1511.05950)::

    theta <- theta - lr * mean of the N gradients of the round              tau = 0

Source: folklore, the baseline of all papers here.

Order: a worker that has delivered waits; the last of the round completes the mean, the update is made, and all read the next
version. A worker that crashes and comes back is waited for. One that leaves for good is not: the mean is over those that are
left, and over what it had pushed in the round already.
"""

from __future__ import annotations

from asyncsim.consistency import BSP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, StepRule
from asyncsim.simulation.programs import Replica


@methods.register("bsp")
class BspMethod(Method):
    """Synchronous SGD: a round ends when every worker has delivered; the mean gradient is applied."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((Accumulate(members=True),), optimizer, BSP(), Replica())
