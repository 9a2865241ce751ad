"""Staleness-aware learning rate::

    d = (g + weight_decay * theta) / max(1, tau)            then the optimiser, as in ``asgd``

W. Zhang, S. Gupta, X. Lian, J. Liu, "Staleness-aware Async-SGD for distributed deep learning", IJCAI 2016 (arXiv 1511.05950),
eq. 3. The divisors of other papers are to choose from by ``rule``: the table of `asyncsim.policies.StalenessAware`.

Order: the staleness is that of the arrival; the gradient and its weight decay are divided, then they enter the momentum.
Differs from the paper: it combines the rule with n-softsync (``softsync``), here every gradient is an update. With a momentum the
divisor acts on what enters the velocity. With Adam the finished update is divided, since a factor on the gradient cancels out
there.
"""

from __future__ import annotations

from asyncsim.consistency import ASP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StalenessAware, StepRule
from asyncsim.policies.staleness import StalenessSettings
from asyncsim.simulation.programs import Replica


@methods.register("staleness_aware")
class StalenessAwareMethod(StalenessSettings, Method):
    """Staleness-aware learning rate, Zhang et al. 2016: ``lr / max(1, tau)`` for every gradient by itself."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(StalenessAware),), optimizer, ASP(), Replica())
