"""n-softsync: the server averages any ``c = floor(N / n)`` gradients into one update::

    theta <- theta - (1 / c) * sum over c pushes of  (lr / max(1, tau)) * g

W. Zhang, S. Gupta, X. Lian, J. Liu, "Staleness-aware Async-SGD for distributed deep learning", IJCAI 2016 (arXiv 1511.05950); the
protocol was taken from a transcription of the paper.

Order: each gradient is divided by its staleness at its own arrival, then it is buffered; the ``c``-th completes the update, and
the momentum lives at the server, over the means. A worker reads again at once, before the update that its push will be part of.
``staleness_aware: false`` leaves the division out.

Differs from the paper: with Adam the penalties divide the finished update (it has no Adam). ``c`` is that of the scenario's
workers and does not shrink when some leave; what is buffered at the end is not applied.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, StalenessAware, StepRule
from asyncsim.simulation.programs import Replica


@methods.register("softsync")
class Softsync(Method):
    """n-softsync, Zhang et al. 2016: the server averages any ``floor(N / n)`` gradients into one update.

    ``staleness_aware`` (the paper's choice) divides each of them by its staleness first. A worker reads again at once.
    """

    n: int = Field(default=1, ge=1)
    staleness_aware: bool = True

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.n > num_workers:
            raise ValueError(f"n-softsync needs 1 <= n <= workers ({num_workers}), not {self.n}")
        gather = Accumulate(count=num_workers // self.n)
        return Bundle((StalenessAware(), gather) if self.staleness_aware else (gather,), optimizer, ASP(), Replica())
