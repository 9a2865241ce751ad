"""The project's independent check: every method once more as a plain loop, written from the equations of its paper.

Nothing of asyncsim's policies, engines or simulation is used here. A run records who pushed what in which order; the loop goes
through that order, computes each gradient with PyTorch's autograd on the parameters which that worker had really read (its own
bookkeeping, compared with the recorded versions), and must end at the run's parameters to 1e-12 in float64. Six workers of very
different speed, momentum 0.9, weight decay, a warm-up and a decay of the learning rate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import asyncsim

UPDATES, WORKERS, LR, MOMENTUM, DECAY = 240, 6, 0.02, 0.9, 1e-3
OPTIMIZER = {"kind": "sgd", "lr": LR, "momentum": MOMENTUM, "weight_decay": DECAY}
SCHEDULE = {"kind": "multistep", "milestones": [0.6], "gamma": 0.2, "warmup": 0.1, "warmup_from": "1/N"}


def factor(update: int) -> float:
    """The schedule at the ``update``-th update (from 1): linearly from 1/6 to 1 over 24 updates, a fifth after the 144th."""
    warm = min(1.0, 1 / WORKERS + (1 - 1 / WORKERS) * update / 24)
    return warm * (0.2 if update > 144 else 1.0)


class Arrival(NamedTuple):
    worker: int
    step: int
    tau: int  # versions between the read and now, by the loop's own count
    read: Any  # what ``Fleet.reads`` held for this worker
    lr: float  # of the update that this arrival would make


class Fleet:
    """Who has read what. ``walk`` goes through the recorded arrivals; the loop calls ``applied`` after each update and the worker
    that just pushed reads at once. ``handed`` is what a read gets."""

    def __init__(self, make: Callable[..., Any], method: Any, **sections: Any) -> None:
        sections = {"optimizer": OPTIMIZER, "schedule": SCHEDULE, "run": {"updates": UPDATES}, "dtype": "float64"} | sections
        self.scenario = make(WORKERS, {"kind": "gamma_heterogeneous", "mean": "1s"}, method=method, **sections)
        self.result = asyncsim.simulate(self.scenario)
        assert self.result.summary["status"] == "finished"
        self.task = self.scenario.task.build(self.scenario.seed, "cpu", "float64", WORKERS)
        self.layers = list(self.task.module.named_parameters())
        self.theta = torch.cat([parameter.detach().reshape(-1) for _, parameter in self.layers]).clone()
        self.handed = self.theta
        self.version = 0

    def walk(self, stale: int = WORKERS) -> Iterator[Arrival]:
        """The arrivals; one of them, at least, is staler than ``stale``."""
        reads, versions = [self.handed] * WORKERS, [0] * WORKERS
        stalest = 0
        for row in self.result.updates.itertuples():
            assert versions[row.worker] == row.read_version
            tau = self.version - versions[row.worker]
            stalest = max(stalest, tau)
            yield Arrival(row.worker, row.step, tau, reads[row.worker], LR * factor(self.version + 1))
            reads[row.worker], versions[row.worker] = self.handed, self.version
            assert self.version == row.version
        assert self.version == UPDATES
        assert stalest > stale

    def applied(self, theta: Tensor, handed: Tensor | None = None) -> None:
        self.version += 1
        self.theta = theta
        self.handed = theta if handed is None else handed

    def gradient(self, params: Tensor, worker: int, step: int) -> Tensor:
        """Of the mean cross-entropy of the batch, by autograd on the task's module."""
        return self.loss_and_gradient(params, worker, step)[1]

    def loss_and_gradient(self, params: Tensor, worker: int, step: int) -> tuple[float, Tensor]:
        """The mean cross-entropy of the batch, and its gradient."""
        inputs, targets = self.task.batch(worker, step)
        pieces = params.clone().requires_grad_()
        sizes = [parameter.numel() for _, parameter in self.layers]
        named = {
            name: piece.reshape(parameter.shape)
            for (name, parameter), piece in zip(self.layers, pieces.split(sizes), strict=True)
        }
        loss = torch.nn.functional.cross_entropy(torch.func.functional_call(self.task.module, named, (inputs,)), targets)
        (gradient,) = torch.autograd.grad(loss, pieces)
        return loss.item(), gradient

    def local_model(self, start: Tensor, worker: int, round_: int, steps: int, lr: float, momentum: float) -> Tensor:
        """What a worker comes to after ``steps`` SGD steps of its own from ``start``, its momentum starting at 0."""
        x, v = start, torch.zeros_like(start)
        for index in range(steps):
            v = momentum * v + self.gradient(x, worker, round_ * steps + index)
            x = x - lr * v
        return x

    def agree(self) -> None:
        run = torch.from_numpy(self.result.parameters)
        torch.testing.assert_close(self.theta, run, rtol=1e-12, atol=1e-12)
        start = self.task.init()
        assert (run - start).norm() > 0.1 * start.norm()  # it went somewhere

    def norms(self, vector: Tensor, per: str) -> Tensor:
        """|vector| elementwise, or every element's norm of its layer or of the whole model."""
        if per == "parameter":
            return vector.abs()
        sizes = [parameter.numel() for _, parameter in self.layers] if per == "layer" else [len(vector)]
        return torch.cat([piece.norm().expand(len(piece)) for piece in vector.split(sizes)])


def test_asgd(make):
    """theta <- theta - eta v with v <- gam v + g + wd theta, every gradient as it arrives."""
    fleet = Fleet(make, "asgd")
    v = torch.zeros_like(fleet.theta)
    for worker, step, _, read, lr in fleet.walk():
        v = MOMENTUM * v + fleet.gradient(read, worker, step) + DECAY * fleet.theta
        fleet.applied(fleet.theta - lr * v)
    fleet.agree()


def test_staleness_aware(make):
    """Zhang et al. 2016, eq. 3: alpha / tau for tau > 0, alpha for tau = 0, weight decay divided alike."""
    fleet = Fleet(make, "staleness_aware")
    v = torch.zeros_like(fleet.theta)
    for worker, step, tau, read, lr in fleet.walk():
        d = fleet.gradient(read, worker, step) + DECAY * fleet.theta
        v = MOMENTUM * v + (d / tau if tau > 0 else d)
        fleet.applied(fleet.theta - lr * v)
    fleet.agree()


@pytest.mark.parametrize("per", ["parameter", "layer", "model"])
def test_gap_aware(make, per):
    """Barkai et al. 2020 (reference 2.1 and 2.2): r <- b r + (1 - b) u^2 after each step u = v,
    C = eta_max (sqrt(r / (1 - b^t)) + eps), G = 1 + |theta - s| / C, d = (g + wd theta) / G, v <- gam v + d,
    theta <- theta - eta v."""
    b, eps = 0.999, 1e-8
    fleet = Fleet(make, {"kind": "gap_aware", "per": per})
    v, r, lr_max = torch.zeros_like(fleet.theta), torch.zeros_like(fleet.theta), 0.0
    for worker, step, _, read, lr in fleet.walk():
        lr_max = max(lr_max, lr)
        penalty = 1.0
        if fleet.version > 0:
            c = lr_max * (torch.sqrt(r / (1 - b**fleet.version)) + eps)
            penalty = 1 + fleet.norms(fleet.theta - read, per) / c
        v = MOMENTUM * v + (fleet.gradient(read, worker, step) + DECAY * fleet.theta) / penalty
        r = b * r + (1 - b) * fleet.norms(v, per) ** 2
        fleet.applied(fleet.theta - lr * v)
    fleet.agree()


@pytest.mark.parametrize("momentum", [0.0, MOMENTUM, "nesterov"], ids=["sgd", "heavy_ball", "nesterov"])
@pytest.mark.parametrize("step_length", ["applied", "code"])
def test_gap_aware_with_either_step_length(make, step_length, momentum):
    """The published code's order (reference 2.2, FTP): r <- b r + (1 - b) u^2 with the momentum buffer that is there, or the
    gradient that came, then t += 1, C, G, and the step. Ours takes the direction into r after the step. Plain SGD: d; heavy ball:
    v <- gam v + d; Nesterov: d + gam v."""
    b, eps, gam = 0.999, 1e-8, MOMENTUM if momentum else 0.0
    fleet = Fleet(
        make, {"kind": "gap_aware", "step_length": step_length},
        optimizer=OPTIMIZER | {"momentum": gam, "nesterov": momentum == "nesterov"},
    )  # fmt: skip
    v, r, t, lr_max = torch.zeros_like(fleet.theta), torch.zeros_like(fleet.theta), 0, 0.0
    for worker, step, _, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step)
        if step_length == "code":
            u = v if momentum else g
            r, t = b * r + (1 - b) * u**2, t + 1
        lr_max = max(lr_max, lr)
        gap = (fleet.theta - read).abs()
        penalty = 1 + gap / (lr_max * (torch.sqrt(r / (1 - b**t)) + eps)) if t else 1.0
        d = (g + DECAY * fleet.theta) / penalty
        v = gam * v + d
        direction = d + gam * v if momentum == "nesterov" else v
        if step_length == "applied":
            r, t = b * r + (1 - b) * direction**2, t + 1
        fleet.applied(fleet.theta - lr * direction)
    fleet.agree()


@pytest.mark.parametrize("look_ahead", [True, False], ids=["dana_zero", "multi_asgd"])
def test_dana(make, look_ahead):
    """Hakimi et al. 2019 (reference 4.2): v_i <- gam v_i + g, theta <- theta - eta v_i, sent theta - eta gam sum_j v_j; here
    the sum is taken anew each time."""
    fleet = Fleet(make, {"kind": "dana", "look_ahead": look_ahead})
    v = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)
    for worker, step, _, read, lr in fleet.walk():
        v[worker] = MOMENTUM * v[worker] + fleet.gradient(read, worker, step) + DECAY * fleet.theta
        theta = fleet.theta - lr * v[worker]
        fleet.applied(theta, theta - lr * MOMENTUM * v.sum(0) if look_ahead else theta)
    fleet.agree()


def test_dana_with_delay_compensation(make):
    """DANA-DC (reference 4.2): g <- g + lambda g g (theta - s_i), s_i being the look-ahead that was sent, then DANA-Zero."""
    fleet = Fleet(make, {"kind": "dana", "compensate": 0.5})
    v = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)
    for worker, step, _, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step)
        g = g + 0.5 * g * g * (fleet.theta - read)
        v[worker] = MOMENTUM * v[worker] + g + DECAY * fleet.theta
        theta = fleet.theta - lr * v[worker]
        fleet.applied(theta, theta - lr * MOMENTUM * v.sum(0))
    fleet.agree()


@pytest.mark.parametrize("step_length", ["applied", "code"])
@pytest.mark.parametrize("between", ["views", "parameters"])
def test_dana_gap_aware(make, between, step_length):
    """DANA-GA (reference 2.2): d = (g + wd theta) / G, v_i <- gam v_i + d, theta <- theta - eta v_i, sent theta - eta gam
    sum_j v_j. The gap lies between what was sent and what would be sent now, or between what was sent and theta; u = v_i of the
    last step, with the published code's one more count in t, or without."""
    b, eps = 0.999, 1e-8
    fleet = Fleet(make, {"kind": "dana_gap_aware", "between": between, "step_length": step_length})
    v = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)
    r, lr_max = torch.zeros_like(fleet.theta), 0.0
    for worker, step, _, read, lr in fleet.walk():
        lr_max = max(lr_max, lr)
        penalty = 1.0
        if fleet.version > 0:
            count = fleet.version + (step_length == "code")
            c = lr_max * (torch.sqrt(r / (1 - b**count)) + eps)
            now = fleet.handed if between == "views" else fleet.theta
            penalty = 1 + (now - read).abs() / c
        v[worker] = MOMENTUM * v[worker] + (fleet.gradient(read, worker, step) + DECAY * fleet.theta) / penalty
        r = b * r + (1 - b) * v[worker] ** 2
        theta = fleet.theta - lr * v[worker]
        fleet.applied(theta, theta - lr * MOMENTUM * v.sum(0))
    fleet.agree()


@pytest.mark.parametrize("adaptive", [False, True], ids=["c", "a"])
def test_dc_asgd(make, adaptive):
    """Zheng et al. 2017 (reference 7): g + lambda g g (theta - s); -c: lambda = 0.5; -a: per worker m <- 0.95 m + 0.05 g g from
    0 and lambda = 0.5 / sqrt(m + 1e-7). Then momentum SGD."""
    fleet = Fleet(make, {"kind": "dc_asgd", "adaptive": adaptive, "strength": 0.5})
    v = torch.zeros_like(fleet.theta)
    m = torch.zeros(WORKERS, len(fleet.theta), dtype=torch.float64)
    for worker, step, _, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step)
        m[worker] = 0.95 * m[worker] + 0.05 * g * g
        strength = 0.5 / torch.sqrt(m[worker] + 1e-7) if adaptive else 0.5
        g = g + strength * g * g * (fleet.theta - read)
        v = MOMENTUM * v + g + DECAY * fleet.theta
        fleet.applied(fleet.theta - lr * v)
    fleet.agree()


def test_softsync_with_staleness_aware_rates(make):
    """2-softsync, N = 6 (reference 3.1): any c = 3 gradients, theta <- theta - (1 / c) sum alpha(tau_l) g_l with
    alpha / max(1, tau), a worker reads again at once; momentum at the server over the averages."""
    fleet = Fleet(make, {"kind": "softsync", "n": 2})
    v, collected = torch.zeros_like(fleet.theta), []
    for worker, step, tau, read, lr in fleet.walk():
        collected.append((fleet.gradient(read, worker, step), max(1, tau)))
        if len(collected) == 3:
            v = MOMENTUM * v + sum((g + DECAY * fleet.theta) / divisor for g, divisor in collected) / 3
            fleet.applied(fleet.theta - lr * v)
            collected = []
    fleet.agree()


def test_fedbuff(make):
    """Nguyen et al. 2022 (reference 7): buffer += (x_sent - x_local) / sqrt(1 + tau), after Kb = 3: theta <- theta - eta_g v with
    v <- gam v + buffer / Kb (and weight decay with the same weights). Workers: 2 local steps with momentum 0.5, reset each
    round, at the local rate that the schedule gave when they read; eta_g = 0.5 stays as it is."""
    method = {"kind": "fedbuff", "buffer": 3, "local_steps": 2, "local_lr": 0.05, "local_momentum": 0.5}
    fleet = Fleet(make, method, optimizer=OPTIMIZER | {"lr": 0.5})
    v, collected = torch.zeros_like(fleet.theta), []
    for worker, step, tau, read, _ in fleet.walk():
        local_lr = 0.05 * factor(fleet.version - tau + 1)
        x = fleet.local_model(read, worker, step, 2, local_lr, 0.5)
        collected.append((read - x, (1 + tau) ** -0.5))
        if len(collected) == 3:
            v = MOMENTUM * v + sum(weight * (delta + DECAY * fleet.theta) for delta, weight in collected) / 3
            fleet.applied(fleet.theta - 0.5 * v)
            collected = []
    fleet.agree()


def test_fedasync(make):
    """Xie et al. 2019 (reference 7): theta <- (1 - a) theta + a x with a = 0.6 / sqrt(1 + tau), x the worker's model after three
    local steps with momentum 0.9 at the rate of its read."""
    method = {"kind": "fedasync", "rate": 0.6, "local_steps": 3, "local_lr": 0.02, "local_momentum": 0.9}
    fleet = Fleet(make, method, optimizer={"kind": "sgd", "lr": 1.0})
    for worker, step, tau, read, _ in fleet.walk():
        x = fleet.local_model(read, worker, step, 3, 0.02 * factor(fleet.version - tau + 1), 0.9)
        a = 0.6 / (1 + tau) ** 0.5
        fleet.applied((1 - a) * fleet.theta + a * x)
    fleet.agree()


def test_adamw_with_staleness_aware_rates(make):
    """AdamW (Loshchilov and Hutter 2019) where the staleness divides the finished update: m, s of the plain gradient,
    theta <- theta - eta (m^ / (sqrt(s^) + eps) + wd theta) / max(1, tau)."""
    optimizer = {"kind": "adam", "lr": 0.02, "weight_decay": 0.01, "decoupled": True}
    fleet = Fleet(make, "staleness_aware", optimizer=optimizer)
    m, s = torch.zeros_like(fleet.theta), torch.zeros_like(fleet.theta)
    for worker, step, tau, read, lr in fleet.walk():
        g = fleet.gradient(read, worker, step)
        k = fleet.version + 1
        m, s = 0.9 * m + 0.1 * g, 0.999 * s + 0.001 * g * g
        update = (m / (1 - 0.9**k)) / (torch.sqrt(s / (1 - 0.999**k)) + 1e-8) + 0.01 * fleet.theta
        fleet.applied(fleet.theta - lr * update / max(1, tau))
    fleet.agree()
