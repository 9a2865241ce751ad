"""DiLoCo and its inner AdamW: against torch's optimiser, batched, and what a crash and a new round do to the moments."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_identities import parameters
from test_independent_loops import WORKERS, Fleet, factor

import asyncsim

INNER = {"beta1": 0.8, "beta2": 0.95, "eps": 1e-6, "weight_decay": 0.1}
OUTER = {"kind": "sgd", "lr": 0.7, "momentum": 0.9, "nesterov": True}
UNEVEN = {"kind": "gamma_heterogeneous", "mean": "1s"}


def inner_model(fleet, start, worker, round_, steps, lr, state):
    """What ``torch.optim.AdamW`` comes to; ``state`` goes in and out."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.AdamW([x], lr=lr, betas=(INNER["beta1"], INNER["beta2"]), eps=INNER["eps"],
                                  weight_decay=INNER["weight_decay"])  # fmt: skip
    if state is not None:
        optimizer.state[x] = state
    for index in range(steps):
        x.grad = fleet.gradient(x.detach(), worker, round_ * steps + index)
        optimizer.step()
    return x.detach(), optimizer.state[x]


@pytest.mark.parametrize("keep", [True, False])
def test_asynchronous_workers_take_the_steps_of_torch(make, keep):
    """Every push of six uneven workers, moments kept or fresh, a schedule at the reads; the server: heavy ball."""
    method = {"kind": "fedbuff", "buffer": 1, "power": 0.0, "program": {
        "kind": "local_adamw", "steps": 3, "lr": 0.01, "fresh": not keep} | INNER}  # fmt: skip
    fleet = Fleet(make, method, optimizer={"kind": "sgd", "lr": 0.3, "momentum": 0.5})
    states, v = {}, torch.zeros_like(fleet.theta)
    for worker, step, tau, read, _ in fleet.walk():
        lr = 0.01 * factor(fleet.version - tau + 1)
        x, state = inner_model(fleet, read, worker, step, 3, lr, states.get(worker))
        if keep:
            states[worker] = state
        v = 0.5 * v + (read - x)
        fleet.applied(fleet.theta - 0.3 * v)
    fleet.agree()


def test_rounds(make):
    """Synchronous DiLoCo: the mean of all, then Nesterov's step as torch takes it."""
    method = {"kind": "diloco", "local_steps": 4, "local_lr": 0.01} | INNER
    scenario = make(WORKERS, UNEVEN, method=method, optimizer=OUTER, dtype="float64", run={"updates": 20})
    fleet = Fleet.__new__(Fleet)
    fleet.result = asyncsim.simulate(scenario)
    fleet.task = scenario.task.build(scenario.seed, "cpu", "float64", WORKERS)
    fleet.layers = list(fleet.task.module.named_parameters())
    theta = torch.cat([parameter.detach().reshape(-1) for _, parameter in fleet.layers]).clone().requires_grad_()
    start = theta.detach().clone()
    outer = torch.optim.SGD([theta], lr=0.7, momentum=0.9, nesterov=True)
    states = dict.fromkeys(range(WORKERS))
    for round_ in range(20):
        mean = torch.zeros_like(start)
        for worker in range(WORKERS):
            read = theta.detach()
            x, states[worker] = inner_model(fleet, read, worker, round_, 4, 0.01, states[worker])
            mean += (read - x) / WORKERS
        theta.grad = mean
        outer.step()
    torch.testing.assert_close(theta.detach(), torch.from_numpy(fleet.result.parameters), rtol=1e-11, atol=1e-12)
    assert (theta.detach() - start).norm() > 0.1 * start.norm()


def test_one_step_that_keeps_nothing_is_the_sign_of_the_gradient(make):
    """AdamW's first step is lr * g / (|g| + eps); without decay and with a tiny eps its size is lr wherever g is not 0."""
    program = {"kind": "local_adamw", "steps": 1, "lr": 0.01, "weight_decay": 0.0, "eps": 1e-12, "fresh": True}
    one = {"dtype": "float64", "run": {"updates": 1}, "optimizer": {"kind": "sgd", "lr": 1.0}}
    scenario = make(1, method={"kind": "custom", "program": program}, **one)
    start = scenario.task.build(scenario.seed, "cpu", "float64", 1).init().numpy()
    moved = np.abs(parameters(scenario) - start)
    assert np.allclose(moved[moved > 1e-6], 0.01, rtol=1e-6)
    assert (moved > 1e-6).mean() > 0.5


def test_slowmo_is_an_outer_momentum(make):
    """SlowMo (Wang et al. 2020) with a constant fast rate gamma: u <- beta u + (x0 - xbar) / gamma; x <- x0 - alpha gamma u. That
    is local SGD with heavy ball at the server, lr alpha and momentum beta."""
    common = {"dtype": "float64", "run": {"updates": 12}}
    method = {"kind": "local_sgd", "local_steps": 3, "local_lr": 0.05}
    ours = parameters(make(4, method=method, optimizer={"kind": "sgd", "lr": 0.8, "momentum": 0.6}, **common))
    scenario = make(4, method=method, **common)
    fleet = Fleet.__new__(Fleet)
    fleet.task = scenario.task.build(scenario.seed, "cpu", "float64", 4)
    fleet.layers = list(fleet.task.module.named_parameters())
    x0 = torch.cat([parameter.detach().reshape(-1) for _, parameter in fleet.layers])
    u = torch.zeros_like(x0)
    for round_ in range(12):
        models = [fleet.local_model(x0, worker, round_, 3, 0.05, 0.0) for worker in range(4)]
        u = 0.6 * u + (x0 - sum(models) / 4) / 0.05
        x0 = x0 - 0.8 * 0.05 * u
    np.testing.assert_allclose(ours, x0.numpy(), rtol=1e-11, atol=1e-12)


def test_kept_moments_make_a_difference_and_are_lost_with_the_worker(make):
    """Fresh and kept moments part from the second round on. A worker that has been down begins with new ones, so that a fleet
    whose workers crash all the time keeps nothing."""
    common = {"optimizer": {"kind": "sgd", "lr": 1.0}, "dtype": "float64"}

    def run(keep, updates, **cluster):
        method = {"kind": "custom", "program": {"kind": "local_adamw", "steps": 2, "fresh": not keep}}
        scenario = make(2, method=method, run={"updates": updates}, **common)
        return parameters(scenario.evolve(cluster={"workers": 2, "compute": "1s"} | cluster) if cluster else scenario)

    assert np.array_equal(run(True, 2), run(False, 2))
    assert not np.array_equal(run(True, 6), run(False, 6))
    crashing = {"faults": {"up": "2.5s", "down": "1s"}}  # one round of two batches in every life
    assert np.array_equal(run(True, 6, **crashing), run(False, 6, **crashing))


@pytest.mark.parametrize("width", [2, 4])
def test_fresh_moments_are_batched(make, width):
    method = {"kind": "diloco", "local_steps": 2, "fresh": True} | INNER
    scenario = make(4, method=method, optimizer=OUTER, dtype="float64", run={"updates": 10})
    one, other = (asyncsim.simulate(scenario.evolve({}, engine=engine))
                  for engine in ({"kind": "serial"}, {"kind": "batched", "width": width}))  # fmt: skip
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-9, atol=1e-12)
    assert other.manifest["engine"]["kind"] == "batched"
    assert one.fingerprints["timeline"] == other.fingerprints["timeline"]
