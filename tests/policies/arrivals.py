"""A server and pushes without a clock: what a policy sees at an arrival, with gradients of the test's choice."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from torch import Tensor

from asyncsim.engine.serial import SerialEngine
from asyncsim.messages import Future, Gradient
from asyncsim.policies import Policy, Push, Snapshot, StepRule, Transform, Verdict
from asyncsim.streams import Streams


@dataclass
class View:
    """The ``ServerView`` of a test; ``look`` is what a read would hand out now, the parameters unless said otherwise."""

    params: Tensor | None
    version: int = 0
    num_workers: int = 3
    members: int = 3
    departed: frozenset[int] = frozenset()
    lr: float = 0.1
    lr_max: float = 0.1
    layers: tuple[slice, ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()
    tables: tuple[tuple[slice, int], ...] = ()
    look: Tensor | None = field(default=None, repr=False)
    now: int = 0
    stage: int = 0
    num_stages: int = 1
    streams: Streams = field(default_factory=lambda: Streams(0), repr=False)
    policy: Policy | None = field(default=None, repr=False)  # whose momentum ``velocity`` is
    waiting: tuple[Push, ...] = ()

    def view(self, worker: int = 0) -> Tensor | None:
        return self.params if self.look is None else self.look

    def velocity(self) -> Tensor | None:
        return self.policy.velocity(self)

    def foresees(self, until: int) -> bool:
        return False

    def rate_ahead(self, updates: int, pushes: int) -> float:
        return self.lr

    def ahead(self, gradient: Tensor) -> Tensor:
        shadow = Push(0, 0, Snapshot(self.params, self.version, 0, 1.0), 0, 0, 0, None, replaced=gradient.clone())
        direction = self.policy.step.direction(shadow, copy.deepcopy(self.policy.state.step), self)
        return self.params - self.lr * direction

    def data_weight(self, worker: int) -> float:
        return (2.0, 0.5, 0.5)[worker % 3]

    def moved(self, snapshot: Snapshot) -> Tensor:
        return self.params - snapshot.params

    def path(self, snapshot: Snapshot, most: int) -> list[Tensor]:
        return [snapshot.params, self.params]


def engine() -> SerialEngine:
    return SerialEngine(SimpleNamespace(additive=False), None)


def future(gradient: Tensor, by: SerialEngine | None = None) -> Future:
    """A pending future whose result will be a copy of ``gradient``."""
    known = gradient.clone()
    return (by or engine()).submit(lambda *_: Gradient(known.clone(), known.new_zeros(()), None), known, 0, 0)


class Anything(dict[str, float]):
    """Takes notes of whatever name."""

    def __contains__(self, name: object) -> bool:
        return True


def push(
    gradient: Tensor | None, snapshot: Tensor | None, staleness: int = 0, worker: int = 0, by: SerialEngine | None = None
) -> Push:
    read = Snapshot(snapshot, 0, 0, 1.0)
    payload = None if gradient is None else future(gradient, by)
    return Push(worker, 0, read, staleness, 0, 1, payload, noted=Anything())


class Toy:
    """A parameter server in ten lines: ``arrive`` sends a gradient computed on an earlier read through a policy."""

    def __init__(
        self, transforms: tuple[Transform, ...], step: StepRule, start: Tensor, num_workers: int = 3, **view: object
    ) -> None:
        self.policy = Policy(transforms, step, start, num_workers)
        self.engine = engine()
        self.server = View(
            start, num_workers=num_workers, members=num_workers, lr=step.lr, lr_max=step.lr, policy=self.policy, **view
        )  # fmt: skip
        self.reads = [Snapshot(start, 0, 0, 1.0, order) for order in range(num_workers)]
        self.asked = num_workers  # reads so far
        self.pushes: list[Push] = []

    def read(self, worker: int) -> None:
        """The worker takes what it would be handed now."""
        self.server.look = self.policy.view(self.server.params, self.server, worker)
        if self.policy.worker_view:
            self.policy.handed(self.server.look, self.server, worker)
        self.reads[worker] = Snapshot(self.server.look, self.server.version, 0, 1.0, self.asked)
        self.asked += 1

    def arrive(self, worker: int, gradient: Tensor, lr: float | None = None) -> Push | Verdict:
        """One push, and the update if there is one. Returns what came out of the chain."""
        server, snapshot = self.server, self.reads[worker]
        if lr is not None:
            server.lr, server.lr_max = lr, max(server.lr_max, lr)
        arrived = push(gradient, None, server.version - snapshot.version, worker, self.engine)
        arrived.snapshot = snapshot
        self.pushes.append(arrived)
        result = self.policy.arrive(arrived, server)
        if not isinstance(result, Verdict):
            server.params = self.policy.apply(result, server)
            server.version += 1
            server.look = self.policy.view(server.params, server, worker)
        return result


def arrivals(size: int, count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    """``count`` gradients of length ``size``, the same for one seed; no generator of the process is touched."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for _ in range(count)]
