"""Methods whose workers compute gradients of whole models."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from asyncsim.consistency import ASP, BSP, SSP
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.policies import (
    SGD,
    Accumulate,
    DelayCompensation,
    DropStale,
    GapAware,
    StalenessAware,
    StepRule,
    Transform,
    WorkerMomentum,
    optimizers,
    policies,
)  # fmt: skip
from asyncsim.simulation.programs import Replica


@methods.register("asgd")
class ASGD(Method):
    """Plain asynchronous SGD: every gradient is applied as it arrives, however stale."""


@methods.register("custom")
class Custom(Method):
    """Your own chain: the transforms of ``policy`` in order, then the optimiser."""

    policy: tuple[Annotated[Transform, policies], ...] = ()
    step: Annotated[StepRule, optimizers] | None = None

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle(self.policy, self.step or optimizer, ASP(), Replica())


@methods.register("staleness_aware")
class StalenessAwareMethod(StalenessAware, Method):
    """Staleness-aware learning rate, Zhang et al. 2016: ``lr / max(1, tau)`` for every gradient by itself."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((_part(StalenessAware, self),), optimizer, ASP(), Replica())


@methods.register("softsync")
class Softsync(Method):
    """n-softsync, Zhang et al. 2016: the server averages any ``floor(N / n)`` gradients into one update.

    ``staleness_aware`` (the paper's choice) divides each of them by its staleness first. A worker reads again at once.
    """

    n: int = Field(1, ge=1)
    staleness_aware: bool = True

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.n > num_workers:
            raise ValueError(f"n-softsync needs 1 <= n <= workers ({num_workers}), not {self.n}")
        gather = Accumulate(count=num_workers // self.n)
        return Bundle((StalenessAware(), gather) if self.staleness_aware else (gather,), optimizer, ASP(), Replica())


@methods.register("gap_aware")
class GapAwareMethod(GapAware, Method):
    """Gap-Aware, Barkai et al. 2020: the update is divided by ``1 + gap / C``, elementwise by default."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((_part(GapAware, self),), optimizer, ASP(), Replica())


@methods.register("dana")
class Dana(Method):
    """DANA-Zero, Hakimi et al. 2019: a momentum per worker, and workers read a look-ahead over all of them.

    ``look_ahead: false`` is Multi-ASGD. ``compensate`` adds DANA-DC's delay compensation with that constant strength.
    """

    look_ahead: bool = True
    compensate: float = Field(0.0, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        transforms = (DelayCompensation(strength=self.compensate, adaptive=False),) if self.compensate else ()
        return Bundle(transforms, _worker_momentum(optimizer, self.look_ahead), ASP(), Replica())


@methods.register("dana_gap_aware")
class DanaGapAware(GapAware, Method):
    """DANA-GA, Barkai et al. 2020: Gap-Aware in front of DANA's momentum.

    By default the gap lies between look-ahead points (what was handed out, what would be handed out now), so one worker
    alone is Nesterov's SGD; ``between: parameters`` compares what was handed out with the server's parameters.
    """

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((_part(GapAware, self),), _worker_momentum(optimizer, True), ASP(), Replica())


@methods.register("dc_asgd")
class DcAsgd(DelayCompensation, Method):
    """Delay-compensated ASGD, Zheng et al. 2017; ``adaptive: false`` is DC-ASGD-c."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((_part(DelayCompensation, self),), optimizer, ASP(), Replica())


@methods.register("ssp")
class SspMethod(Method):
    """Stale synchronous parallel, Ho et al. 2013: nobody runs more than ``bound`` rounds ahead of the slowest."""

    bound: int | None = Field(3, ge=0)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, SSP(bound=self.bound), Replica())


@methods.register("bsp")
class BspMethod(Method):
    """Synchronous SGD: a round ends when every worker has delivered; the mean gradient is applied."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((Accumulate(members=True),), optimizer, BSP(), Replica())


@methods.register("k_sync")
class KSync(Method):
    """K-sync SGD, Dutta et al. 2018: a round ends with the first ``k`` gradients on its parameters.

    ``cancel`` (the paper's form): the others drop their work and start on the new parameters. Without it they finish first,
    and what they send is dropped as stale.
    """

    k: int = Field(ge=1)
    cancel: bool = True

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.k > num_workers:
            raise ValueError(f"K-sync needs 1 <= k <= workers ({num_workers}), not {self.k}")
        return Bundle(_first(self.k), optimizer, BSP(cancel=self.cancel), Replica())


@methods.register("backup_workers")
class BackupWorkers(Method):
    """Synchronous SGD with ``backups`` spare workers, Chen et al. 2016: the slowest ``backups`` of every round are dropped."""

    backups: int = Field(1, ge=0)
    cancel: bool = True

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.backups >= num_workers:
            raise ValueError(f"backup workers must be fewer than the workers ({num_workers}), not {self.backups}")
        return Bundle(_first(num_workers - self.backups), optimizer, BSP(cancel=self.cancel), Replica())


@methods.register("rennala")
class Rennala(Method):
    """Rennala SGD, Tyurin and Richtarik 2023: average ``batch`` gradients computed at the current parameters, from whomever;
    stale ones are ignored."""

    batch: int = Field(4, ge=1)

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((DropStale(bound=0), Accumulate(count=self.batch)), optimizer, ASP(), Replica())


@methods.register("ringmaster")
class Ringmaster(Method):
    """Ringmaster ASGD, Maranjyan et al. 2025: gradients of staleness ``threshold`` or more are discarded.

    ``stops``: work that has become that stale is not even finished.
    """

    threshold: int = Field(8, ge=1)
    stops: bool = False

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if self.stops and self.consistency is not None:
            raise ValueError("`stops` is a consistency rule (asp with recall_after) and cannot be combined with another one")
        consistency = ASP(recall_after=self.threshold if self.stops else None)
        return Bundle((DropStale(bound=self.threshold - 1),), optimizer, consistency, Replica())


def _first(count: int) -> tuple[Transform, ...]:
    return DropStale(bound=0), Accumulate(count=count, members=True)


def _part(cls: type[Transform], method: Method) -> Transform:
    """The transform whose settings the method's fields repeat."""
    return cls(**{name: getattr(method, name) for name in cls.model_fields})


def _worker_momentum(optimizer: StepRule, look_ahead: bool) -> WorkerMomentum:
    if not isinstance(optimizer, SGD):
        raise ValueError(f"DANA keeps a momentum per worker and needs the optimizer sgd, not {optimizer.kind}")
    if optimizer.nesterov:
        raise ValueError("DANA has a look-ahead of its own; leave `nesterov` out of the optimizer")
    return WorkerMomentum(
        lr=optimizer.lr, weight_decay=optimizer.weight_decay, momentum=optimizer.momentum, look_ahead=look_ahead
    )  # fmt: skip
