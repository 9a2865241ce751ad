"""HALoS: workers push to the server of their region, and the regional servers now and then to a global one, without waiting::

    worker:    x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x  to its region, and read there
    region r:  theta_r <- delayed Nesterov with D                                       `delayed_nesterov`
               after ``every`` updates of its own:  send  anchor_r - theta_r  and go on
               when the answer theta has come:      theta_r <- (1 - share) * theta_r + share * theta;   anchor_r <- theta_r
    global:    theta <- delayed Nesterov with what has come, at global_lr, global_momentum, global_period;   answer theta

HALoS, 2025. The rule and all defaults were read in the public code (github.com/utnslab/halos), not in the paper.

Order: a push is applied in its region; if that was the ``every``-th since the region has sent something, what it has moved by
since its anchor sets out; then the worker reads. What a region does between sending and the answer is in the anchor then, and is
never sent. Evaluated is the global model.
Ours: one message of a region is under way at a time; where it takes longer than ``every`` updates, the next sets out as the
answer has come. Workers take SGD steps (there: AdamW with kept moments, betas 0.9 and 0.95, a warm-up; ``program: local_adamw``).
In the code the published rates are 0.2 times 16 and 0.15 times 2: a push steps by 1 / period.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.cluster.links import Link
from asyncsim.cluster.network import Counts
from asyncsim.consistency import ASP
from asyncsim.exchange import RegionalServers
from asyncsim.methods.delayed_nesterov import DelayedNesterovStep, PeriodSettings
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.policies import StepRule, heavy_ball


@methods.register("halos")
class Halos(PeriodSettings, LocalMethod):
    """HALoS, 2025: delayed Nesterov at the server of every region, and again at a global one, to which a region sends what it has
    moved by after ``every`` updates. For the optimizer ``{kind: sgd, lr: 3.2, momentum: 0.9}``, which is the regions'."""

    regions: Counts = 2
    links: tuple[Link, ...] = ()
    every: int = Field(default=32, ge=1)
    share: float = Field(default=0.25, ge=0, le=1)
    period: int = Field(default=16, ge=1)
    global_lr: float = Field(default=0.3, ge=0)
    global_momentum: float = Field(default=0.5, ge=0, lt=1)
    global_period: int = Field(default=2, ge=1)
    local_steps: int = Field(default=8, ge=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        regional = self.part(DelayedNesterovStep, **heavy_ball(optimizer, "HALoS"))
        step = DelayedNesterovStep(lr=self.global_lr, momentum=self.global_momentum, period=self.global_period)
        hierarchy = RegionalServers(regions=self.regions, every=self.every, share=self.share, links=self.links, step=step)
        return Bundle((), regional, ASP(), self.local(), hierarchy=hierarchy)
