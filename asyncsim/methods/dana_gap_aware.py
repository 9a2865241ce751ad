"""DANA-GA: Gap-Aware in front of DANA's momentum of each worker::

    G     = 1 + |now - s| / C                       elementwise; C as in ``gap_aware``
    d     = (g + weight_decay * theta) / G
    v_i   <- momentum * v_i + d                     i: the worker that pushed
    theta <- theta - lr * v_i
    worker j that reads is handed  s = theta - lr * momentum * sum_i v_i

    between: views          now = what the worker would be handed if it read now
    between: parameters     now = theta

S. Barkai, I. Hakimi, A. Schuster, "Gap-Aware Mitigation of Gradient Staleness", ICLR 2020 (arXiv 1909.10802), with DANA (arXiv
1907.11612). That the two combine is said in the abstract of Barkai's thesis. Which two points the authors compare is recalled
with medium confidence only: ``parameters``. Our default is ``views``, because then one worker has no gap.

Order: ``C`` and the gap are those that the arrival finds; the divided gradient enters the velocity of its worker; the step that
was taken enters the mean of squares behind ``C``; then the worker reads.
Differs from the published code: see ``gap_aware`` and ``dana``. Which momentum buffer the authors take for ``C``, with one for
each worker, is not known; ``step_length: code`` takes that of the last step.
"""

from __future__ import annotations

from asyncsim.consistency import ASP
from asyncsim.methods.dana import worker_momentum
from asyncsim.methods.gap_aware import GapAware, GapSettings
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import StepRule
from asyncsim.simulation.programs import Replica


@methods.register("dana_gap_aware")
class DanaGapAware(GapSettings, Method):
    """DANA-GA, Barkai et al. 2020: Gap-Aware in front of DANA's momentum.

    By default the gap lies between look-ahead points (what was handed out, what would be handed out now), so one worker
    alone is Nesterov's SGD; ``between: parameters`` compares what was handed out with the server's parameters.
    """

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((self.part(GapAware),), worker_momentum(optimizer, True), ASP(), Replica())
