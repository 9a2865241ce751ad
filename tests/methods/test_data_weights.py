"""Weights by data size: federated averaging, by hand."""

from __future__ import annotations

import numpy as np
import pytest

import asyncsim
import asyncsim.streams
from asyncsim.engine.kernels import LocalSteps
from asyncsim.errors import UserError
from asyncsim.scenario import Document, build_scenario


def scenario(method, partition="dirichlet", **more):
    model = {"kind": "mlp", "hidden": [6], "activation": "tanh"}
    data = {
        "task": {"kind": "digits", "model": model, "batch": 8, "partition": partition},
        "cluster": {"workers": 5, "compute": {"kind": "gamma_heterogeneous", "mean": 1}}, "method": method,
        "optimizer": {"kind": "sgd", "lr": 1.0}, "run": {"updates": 6}, "evaluate": {"updates": 6}, "dtype": "float64", **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


def local_sgd(**more):
    return {"kind": "local_sgd", "local_steps": 3, "local_lr": 0.1, **more}


def test_a_weighted_round_is_federated_averaging():
    run = scenario(local_sgd(before=["data_weights"]))
    task = run.task.build(run.seed, "cpu", "float64", run.groups)
    sizes = np.array(task.shard_sizes)
    assert sizes.sum() == task.train_size
    assert sizes.max() > 1.5 * sizes.min()
    params, streams, kernel = task.init(), asyncsim.streams.Streams(run.seed), LocalSteps(3, 0.1)
    for step in range(6):
        differences = [kernel(task, streams, params, worker, step).gradient for worker in range(5)]
        params = params - sum(size * each for size, each in zip(sizes.tolist(), differences, strict=True)) / int(sizes.sum())
    result = asyncsim.simulate(run).parameters
    assert abs(result - params.numpy()).max() < 1e-12
    assert abs(result - asyncsim.simulate(scenario(local_sgd())).parameters).max() > 1e-3


@pytest.mark.parametrize("partition", ["shuffled", "uniform"])
def test_where_all_share_the_data_nothing_is_weighted(partition):
    weighted = asyncsim.simulate(scenario(local_sgd(before=["data_weights"]), partition))
    assert weighted.fingerprints == asyncsim.simulate(scenario(local_sgd(), partition)).fingerprints


def test_the_penalty_of_a_push_is_the_inverse_of_its_weight_in_a_buffer_too():
    run = scenario({"kind": "fedbuff", "buffer": 2, "power": 0.5, "before": ["data_weights"]}, run={"updates": 20})
    sizes = np.array(run.task.build(run.seed, "cpu", "float64", run.groups).shard_sizes)
    updates = asyncsim.simulate(run).updates
    expected = (1.0 + updates["staleness"]) ** 0.5 * sizes.mean() / sizes[updates["worker"]]
    last_of_two = updates["outcome"] == "applied"
    assert np.allclose(updates["penalty"][~last_of_two], expected[~last_of_two], rtol=1e-12)


def test_a_worker_without_data_is_refused_by_name():
    with pytest.raises(UserError, match="lower"):
        asyncsim.simulate(scenario(local_sgd(), cluster={"workers": 900}))
