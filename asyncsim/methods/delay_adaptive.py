"""Delay-adaptive asynchronous SGD: only gradients that are staler than usual take smaller steps::

    mishchenko   lr_k = lr * N / max(N, tau + 1)
    koloskova    lr_k = lr                                     where tau <= C
                 lr_k = min(lr, 1 / (4 * smoothness * tau))    where tau > C; or the gradient is discarded (``drop``)
    theta <- theta - lr_k * (g + weight_decay * theta)         then the optimiser's momentum, as in ``asgd``

K. Mishchenko, F. Bach, M. Even, B. Woodworth, "Asynchronous SGD beats minibatch SGD under arbitrary delays", 2022; the rule was
read in the code of that paper. A. Koloskova, S. Stich, M. Jaggi, "Sharper convergence guarantees for asynchronous SGD for
distributed and federated learning", 2022; the rule is recalled (high confidence). ``C`` is the average concurrency, ``N`` where
all workers always compute.

Order: the staleness is that of the arrival, and ``lr`` the rate of the arrival, schedule included; the gradient and its weight
decay are divided by ``lr / lr_k``, then they enter the momentum. A discarded gradient is never computed and makes no version.
Differs from the papers: Mishchenko's code counts the updates since the worker's last one, which is ``tau + 1`` where nothing is
dropped and reading takes no time; where Koloskova's rate is below that minimum, it is the minimum here. With a momentum the
divisor acts on what enters the velocity, with Adam on the finished update.
Left out: the theory's constants. ``smoothness`` is yours, and its default of 1 is no estimate.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import StalenessAware, State, StepRule, Transform
from asyncsim.policies.transform import policies
from asyncsim.registry import Spec
from asyncsim.simulation.programs import Replica


class ThresholdSettings(Spec):
    """The fields of the transform, and of the method that holds one. ``after`` None is the number of workers."""

    smoothness: float = Field(default=1.0, gt=0)
    after: int | None = Field(default=None, ge=0)
    drop: bool = False


@policies.register("delay_threshold")
class DelayThreshold(ThresholdSettings, Transform):
    """Push the rate of gradients staler than ``after`` (versions) down to ``1 / (4 * smoothness * tau)``, or ``drop`` them;
    Koloskova et al. 2022, recalled. ``smoothness`` is in gradient norm per parameter norm."""

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.DROPS if self.drop else Need.NOTHING

    def update(self, push: Push, state: State, server: ServerView) -> Push | Verdict:
        after = server.num_workers if self.after is None else self.after
        if push.staleness <= after:
            return push
        if self.drop:
            return Verdict.DROPPED
        divisor = 4.0 * self.smoothness * push.staleness * server.lr
        if divisor > 1.0:
            push.penalise(divisor)
        return push


@methods.register("delay_adaptive")
class DelayAdaptive(ThresholdSettings, Method):
    """Delay-adaptive steps: only gradients staler than usual take smaller ones, by the ``rule`` of Mishchenko et al. 2022 or of
    Koloskova et al. 2022 (which alone has ``smoothness``, ``after`` and ``drop``)."""

    rule: Literal["mishchenko", "koloskova"] = "mishchenko"

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        ours = StalenessAware(rule="delay_adaptive") if self.rule == "mishchenko" else self.part(DelayThreshold)
        return Bundle((ours,), optimizer, ASP(), Replica())
