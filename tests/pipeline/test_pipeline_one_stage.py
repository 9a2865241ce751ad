"""One stage is a replica: the same trace and the same bits as the data-parallel method that is left."""

from __future__ import annotations

import pytest
import torch

import asyncsim
from asyncsim.scenario import Scenario

CLUSTERS = {
    "plain": {},
    "links": {"uplink": {"latency": "300ms", "bandwidth": "1MB/s"}, "downlink": {"latency": "200ms"}},
    "service": {"server": {"service": {"kind": "exponential", "mean": "300ms"}}},
    "crashes": {"faults": {"up": {"kind": "exponential", "mean": "6s"}, "down": "2s"}, "uplink": {"latency": "500ms"}},
    "stragglers": {"compute": {"kind": "gamma_heterogeneous", "mean": "1s"},
                   "events": [{"at": "4s", "workers": [0], "slowdown": 4, "duration": "9s"}]},
}  # fmt: skip
METHODS = ("fdg", "ddg", "pipedream", "bp", "features_replay", {"kind": "gpipe", "micro_batches": 1})


def scenario(method, workers=3, cluster="plain", engine="serial", **more):
    compute = {"compute": {"kind": "exponential", "mean": "1s"}}
    return Scenario.model_validate({
        "task": {"kind": "digits", "batch": 8, "model": {"kind": "mlp", "hidden": [8]}},
        "cluster": {"workers": workers, **compute, **CLUSTERS[cluster]}, "method": method, "engine": engine,
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.5}, "run": {"updates": 25}, "evaluate": {"updates": 10}, **more,
    })  # fmt: skip


def run(*arguments, **more):
    return asyncsim.simulate(scenario(*arguments, **more))


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_the_method_that_is_left(cluster):
    bsp, asgd, sgd = run("bsp", cluster=cluster), run("asgd", cluster=cluster), run("asgd", 1, cluster)
    for method in METHODS:
        given = method if isinstance(method, dict) else {"kind": method}
        assert run(given, cluster=cluster).fingerprints == bsp.fingerprints
        assert run({**given, "sharing": "asynchronous"}, cluster=cluster).fingerprints == asgd.fingerprints
        assert run(given, 1, cluster).fingerprints == sgd.fingerprints


@pytest.mark.parametrize("engine", ["serial", "batched", "threaded"])
def test_engines(engine):
    assert run("fdg", engine=engine).fingerprints == run("bsp", engine=engine).fingerprints


def test_gossip_among_all_is_all_reduce():
    settings = {"dtype": "float64", "optimizer": {"kind": "sgd", "lr": 0.1}}
    gossip = run({"kind": "decoupled_data_parallel", "gossip": "complete"}, **settings)
    assert abs(gossip.parameters - run("bsp", **settings).parameters).max() < 1e-12


@pytest.mark.parametrize("form", ["adapt_then_combine", "combine_then_adapt"])
def test_decentralised_sgd(form):
    """Five groups on a ring, against a plain loop: a third each for oneself and the two beside."""
    method = {"kind": "decoupled_data_parallel", "gossip": {"kind": "ring", "form": form}}
    case = scenario(method, 5, dtype="float64", optimizer={"kind": "sgd", "lr": 0.1})
    task = case.task.build(case.seed, "cpu", "float64", 5)
    rows = [task.init() for _ in range(5)]

    def gradient(params, member, step):
        task.bind(params)
        x, y = task.batch(member, step)
        parts = torch.autograd.grad(task.loss(task.module(x), y), list(task.module.parameters()))
        return torch.cat([part.reshape(-1) for part in parts])

    for step in range(25):
        moves = [0.1 * gradient(rows[s], s, step) for s in range(5)]
        halves = [row - move for row, move in zip(rows, moves, strict=True)]
        mixed = halves if form == "adapt_then_combine" else rows
        new = [sum(mixed[(s + by) % 5] for by in (-1, 0, 1)) / 3 for s in range(5)]
        rows = new if form == "adapt_then_combine" else [row - move for row, move in zip(new, moves, strict=True)]
    torch.testing.assert_close(torch.from_numpy(asyncsim.simulate(case).parameters), sum(rows) / 5, rtol=0, atol=1e-12)
