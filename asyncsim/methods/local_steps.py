"""Methods whose workers take steps of their own and push the difference."""

from __future__ import annotations

from pydantic import Field

from asyncsim.consistency import ASP, BSP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import Accumulate, Mixing, StalenessAware, StepRule
from asyncsim.simulation.programs import LocalSGD


class LocalMethod(Method):
    """Workers take ``local_steps`` SGD steps of their own at ``local_lr`` (the schedule multiplies it) and push the difference.

    The scenario's optimiser is the server's; the plain algorithm is ``{kind: sgd, lr: 1}`` without momentum.
    """

    local_steps: int = Field(4, ge=1)
    local_lr: float = Field(0.05, ge=0)
    local_momentum: float = Field(0.0, ge=0, lt=1)

    def local(self) -> LocalSGD:
        return LocalSGD(steps=self.local_steps, lr=self.local_lr, momentum=self.local_momentum)


@methods.register("local_sgd")
class LocalSgdMethod(LocalMethod):
    """Local SGD / FedAvg, synchronous: every worker takes its local steps, then the models are averaged."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((Accumulate(members=True),), optimizer, BSP(), self.local())


@methods.register("fedbuff")
class FedBuff(LocalMethod):
    """FedBuff, Nguyen et al. 2022: average ``buffer`` model differences, each weighted by ``(1 + tau) ** -power``."""

    buffer: int = Field(4, ge=1)
    power: float = Field(0.5, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        weigh = StalenessAware(rule="polynomial", power=self.power)
        return Bundle((weigh, Accumulate(count=self.buffer)), optimizer, ASP(), self.local())


@methods.register("fedasync")
class FedAsync(LocalMethod):
    """FedAsync, Xie et al. 2019: the server moves ``rate * (1 + tau) ** -power`` of the way to the worker's model."""

    rate: float = Field(0.6, gt=0, le=1)
    power: float = Field(0.5, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((Mixing(rate=self.rate, power=self.power),), optimizer, ASP(), self.local())
