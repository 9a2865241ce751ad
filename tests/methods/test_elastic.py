"""Elastic averaging: against loops written from the equations, what the elastic step keeps, and how long a round takes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_independent_loops import LR, WORKERS, Fleet, factor

import asyncsim
from asyncsim.engine import kernels
from asyncsim.messages import Gradient
from asyncsim.methods.easgd import ElasticSteps
from asyncsim.streams import Streams

SERVER = {"kind": "sgd", "lr": 1.0}
LINKS = {"uplink": "300ms", "downlink": "200ms"}
CRASHES = {"faults": {"up": {"kind": "exponential", "mean": 20}, "down": 1}}


@pytest.mark.parametrize("cluster", [{}, LINKS], ids=["free", "links"])
@pytest.mark.parametrize(("kind", "momentum"), [("easgd", 0.0), ("eamsgd", 0.9)])
def test_elastic_averaging(make, kind, momentum, cluster):
    """Zhang et al. 2015: d = alpha (x_i - theta), x_i <- x_i - d, theta <- theta + d; then 3 steps, the first gradient where
    x_i was before: v_i <- delta v_i - eta g(x + delta v_i), x_i <- x_i + v_i. alpha = 0.9 / N. ``theta`` in d is that read."""
    method = {"kind": kind, "local_steps": 3, "local_lr": LR} | ({"local_momentum": momentum} if momentum else {})
    compute = {"kind": "gamma_heterogeneous", "mean": "1s"}
    scenario = make(WORKERS, compute, method=method, optimizer=SERVER, dtype="float64",
                    schedule={"kind": "multistep", "milestones": [0.6], "gamma": 0.2, "warmup": 0.1, "warmup_from": "1/N"},
                    run={"updates": 240})  # fmt: skip
    if cluster:
        scenario = scenario.evolve(cluster={"workers": WORKERS, "compute": compute, **cluster})
    fleet = Fleet.__new__(Fleet)
    fleet.result = asyncsim.simulate(scenario)
    fleet.task = scenario.task.build(scenario.seed, "cpu", "float64", WORKERS)
    fleet.layers = list(fleet.task.module.named_parameters())
    theta = torch.cat([parameter.detach().reshape(-1) for _, parameter in fleet.layers]).clone()
    versions, x, v = [theta], {}, {worker: torch.zeros_like(theta) for worker in range(WORKERS)}
    for row in fleet.result.updates.itertuples():
        worker, read = row.worker, versions[row.read_version]
        before = x.get(worker, read)
        d = 0.9 / WORKERS * (before - read)
        x[worker], versions = before - d, [*versions, versions[-1] + d]
        for index in range(3):
            at = (before if index == 0 else x[worker]) + momentum * v[worker]
            gradient = fleet.gradient(at, worker, 3 * row.step + index)
            v[worker] = momentum * v[worker] - LR * factor(row.read_version + 1) * gradient
            x[worker] = x[worker] + v[worker]
    torch.testing.assert_close(versions[-1], torch.from_numpy(fleet.result.parameters), rtol=1e-12, atol=1e-12)
    assert (versions[-1] - theta).norm() > 0.01 * theta.norm()
    stale = fleet.result.updates["staleness"]
    assert (stale > 0).any() if cluster else (stale == 0).all()  # one instant, where messages take no time


def test_an_elastic_step_keeps_the_sum_of_all_models(monkeypatch):
    """x_i + theta is what it was: to the bit for multiples of 1/64 and alpha = 1/4, where gradients are 0."""
    x, theta = (torch.randint(-64, 65, (9,), generator=torch.Generator().manual_seed(seed)) / 64 for seed in (0, 1))
    monkeypatch.setattr(kernels, "gradient", lambda *_: Gradient(torch.zeros(9), torch.zeros(()), None))
    result = ElasticSteps(0.25, 2, 0.1, 0.0)(None, Streams(0), theta, 0, 0, torch.stack([x, torch.zeros(9)]))
    assert torch.equal(result.carry[0] + (theta - result.gradient), x + theta)
    assert torch.equal(-result.gradient, (x - theta) / 4)
    assert torch.equal(result.carry[0], x - (x - theta) / 4)


def test_without_a_pull_everybody_is_alone(make):
    """alpha = 0: independent SGD of six workers; the centre stays where it was, to the bit."""
    run = asyncsim.simulate(make(method={"kind": "easgd", "alpha": 0}, optimizer=SERVER))
    assert np.array_equal(run.parameters, make().task.build(0, "cpu", "float32", 6).init().numpy())
    assert run.updates["loss"].tail(30).mean() < 0.9 * run.updates["loss"].head(30).mean()


def test_alpha_one_with_one_worker_hands_the_model_over(make):
    """N = 1, alpha = 1, one step a round: theta takes x_i over. The first push is zero, the second brings one step of SGD."""
    runs = [asyncsim.simulate(make(1, method={"kind": "easgd", "alpha": 1, "local_steps": 1}, optimizer=SERVER, dtype="float64",
                                   run={"updates": updates})) for updates in (1, 2)]  # fmt: skip
    sgd = make(1, method="asgd", optimizer={"kind": "sgd", "lr": 0.05}, dtype="float64", run={"updates": 1})
    assert np.array_equal(runs[0].parameters, sgd.task.build(0, "cpu", "float64", 1).init().numpy())
    np.testing.assert_allclose(runs[1].parameters, asyncsim.simulate(sgd).parameters, rtol=0, atol=1e-15)


def test_eamsgd_without_momentum_is_easgd_bit_for_bit(make):
    settings = {"local_lr": 0.05, "local_steps": 2}
    runs = [asyncsim.simulate(make(method={"kind": kind, **settings} | more, optimizer=SERVER))
            for kind, more in (("easgd", {}), ("eamsgd", {"local_momentum": 0}))]  # fmt: skip
    assert np.array_equal(runs[0].parameters, runs[1].parameters)
    assert runs[0].fingerprints["timeline"] == runs[1].fingerprints["timeline"]


def test_a_round_takes_both_ways_and_its_steps(make):
    """Read 0.2 s, push 0.3 s, three steps of 1 s: the k-th push of each worker arrives at 0.5 + 3.5 k."""
    scenario = make(2, method={"kind": "easgd", "local_steps": 3}, run={"updates": 12})
    scenario = scenario.evolve(cluster={"workers": 2, "compute": "1s", **LINKS})
    run = asyncsim.simulate(scenario)
    assert run.updates["time"].to_numpy() == pytest.approx(np.repeat(0.5 + 3.5 * np.arange(6), 2), abs=1e-9)
    assert asyncsim.plan(scenario).fingerprints["timeline"] == run.fingerprints["timeline"]


def test_a_worker_that_was_down_begins_with_what_it_reads(make):
    """Its next push is zero: it has no model of its own yet."""
    cluster = {"workers": 4, "compute": {"kind": "gamma_heterogeneous", "mean": 1}, **CRASHES}
    scenario = make(4, method="easgd", optimizer=SERVER, run={"updates": 60}).evolve(cluster=cluster)
    run = asyncsim.simulate(scenario)
    downs = run.events[run.events["kind"] == "down"]
    assert run.summary["crashes"] > 3
    moved = []
    for down in downs.itertuples():
        later = run.updates[(run.updates["worker"] == down.worker) & (run.updates["time_ns"] > down.start_ns)]
        if len(later):
            moved.append(later.iloc[0])
    assert moved
    versions = [asyncsim.simulate(scenario.evolve(run={"updates": int(row.version)})).parameters for row in moved[:2]]
    before = [asyncsim.simulate(scenario.evolve(run={"updates": int(row.version) - 1})).parameters for row in moved[:2]
              if row.version > 1]  # fmt: skip
    for one, other in zip(versions, before, strict=True):
        assert np.array_equal(one, other)
