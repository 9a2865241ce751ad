"""Every schedule against its recurrence, in float64: the event loop must give the plain loop's bits."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from plain_loops import Net, accumulated, delayed, features_replay, nesterov, old_activations_new_weights

import asyncsim
from asyncsim.scenario import Scenario

LR = 0.2
UPDATES = 40
HETEROGENEOUS = {"compute": {"kind": "exponential", "mean": 1.0}}


def scenario(method, stages=3, updates=UPDATES, cluster=None, activation="tanh", **more):
    return Scenario.model_validate({
        "name": "recurrence",
        "task": {"kind": "digits", "batch": 16, "model": {"kind": "mlp", "hidden": [24, 20, 16], "activation": activation}},
        "cluster": {"workers": stages, **(cluster or {})},
        "stages": {"count": stages, "split": "layers"},
        "method": method,
        "optimizer": {"kind": "sgd", "lr": LR},
        "run": {"updates": updates},
        "dtype": "float64",
        "engine": "serial",
        "evaluate": {"updates": updates},
    } | more)  # fmt: skip


def net_of(case, group=0, parts=1):
    task = case.task.build(case.seed, "cpu", "float64", case.groups)

    def batch(n):
        x, y = task.batch(group, n // parts)
        return x.chunk(parts)[n % parts], y.chunk(parts)[n % parts]

    return Net(task.module, case.cut().layers or (len(task.module),), batch)


def outcome(case):
    result = asyncsim.simulate(case)
    return torch.from_numpy(result.parameters), result


RULES = {
    "fdg, forward first": ({"kind": "fdg", "update_first": False}, lambda k, K: 2 * (K - k)),
    "fdg, update first": ({"kind": "fdg"}, lambda k, K: max(0, 2 * (K - k) - 1)),
    "fdg, free running": ({"kind": "fdg", "clocked": False}, lambda k, K: max(0, 2 * (K - k) - 1)),
    "pipedream": ("pipedream", lambda k, K: K - k),
    "pipedream, vertical sync": ({"kind": "pipedream", "vertical_sync": True}, lambda k, K: K - 1),
    "ddg": ("ddg", lambda k, K: K - k),
    "bp": ("bp", lambda k, K: 0),
    "data parallel, one group": ("decoupled_data_parallel", lambda k, K: max(0, 2 * (K - k) - 1)),
}


@pytest.mark.parametrize("cluster", [{}, HETEROGENEOUS], ids=["homogeneous", "exponential"])
@pytest.mark.parametrize("stages", [1, 2, 3, 4])
@pytest.mark.parametrize("name", RULES)
def test_delayed_block_sgd(name, stages, cluster):
    method, staleness = RULES[name]
    case = scenario(method, stages, cluster=cluster)
    params, result = outcome(case)
    assert torch.equal(params, delayed(net_of(case), UPDATES, LR, lambda k: staleness(k, stages)))
    updates = result.updates
    steady = updates[updates["step"] >= 2 * stages]
    for stage in range(stages):
        assert set(steady["staleness"][steady["worker"] == stage]) == {staleness(stage + 1, stages)}


@pytest.mark.parametrize("stages", [2, 4])
def test_nesterov(stages):
    """Ajanthan et al. 2025 (reference, pipelines, 5): 1F1B on look-aheads, stage k being K - k updates late. A loop that reads
    the parameters themselves ends elsewhere."""
    optimizer = {"kind": "sgd", "lr": LR, "momentum": 0.9, "weight_decay": 1e-3}
    case = scenario("nesterov_pipeline", stages, cluster=HETEROGENEOUS, optimizer=optimizer)
    params, _ = outcome(case)
    loop = partial(nesterov, net_of(case), UPDATES, LR, 0.9, 1e-3, lambda k: stages - k)
    torch.testing.assert_close(params, loop(), rtol=1e-12, atol=1e-12)
    assert (params - loop(ahead=False)).abs().max() > 1e-3


@pytest.mark.parametrize("beta", [0.5, 0.0])
def test_shrinking(beta):
    case = scenario({"kind": "fdg", "beta": beta})
    assert torch.equal(outcome(case)[0], delayed(net_of(case), UPDATES, LR, lambda k: max(0, 2 * (3 - k) - 1), beta))


@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("update_first", [True, False])
@pytest.mark.parametrize("every", [1, 2, 3, 4])
def test_accumulated(every, update_first, total):
    case = scenario({"kind": "adl", "accumulate": every, "total": total, "update_first": update_first}, updates=15)
    lag = (lambda k: max(0, 2 * (3 - k) - 1)) if update_first else (lambda k: 2 * (3 - k))
    params, result = outcome(case)
    torch.testing.assert_close(params, accumulated(net_of(case), 15, LR, lag, every, total), rtol=0, atol=1e-12)
    if not update_first:
        updates = result.updates[result.updates["step"] >= 12]
        for stage in range(3):
            rows = updates[updates["worker"] == stage]
            law = (lag(stage + 1) + every - 1 - rows["step"] % every) // every
            assert (rows["staleness"] == law).all()


@pytest.mark.parametrize("micro_batches", [3, 4, 8])
def test_two_buffers(micro_batches):
    """Batch ``b`` is computed on the parameters of one update before, whatever the depth."""
    task = {"kind": "digits", "batch": 24, "model": {"kind": "mlp", "hidden": [24, 20, 16], "activation": "tanh"}}
    case = scenario({"kind": "pipedream_2bw", "micro_batches": micro_batches}, updates=15, task=task)
    params, result = outcome(case)
    expected = delayed(net_of(case), 15, LR, lambda k: 1)
    torch.testing.assert_close(params, expected, rtol=0, atol=1e-12)
    updates = result.updates[result.updates["read_version"] > 0]
    assert set(updates["staleness"]) == {1}


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("micro_batches", [1, 2, 4, 16])
@pytest.mark.parametrize("stages", [1, 2, 4])
def test_flushing_is_synchronous_sgd(stages, micro_batches, interleaved):
    method = {"kind": "gpipe", "micro_batches": micro_batches, "interleaved": interleaved}
    case = scenario(method, stages, updates=15, cluster=HETEROGENEOUS)
    params, result = outcome(case)
    torch.testing.assert_close(params, delayed(net_of(case), 15, LR, lambda k: 0), rtol=0, atol=1e-12)
    assert set(result.updates["staleness"]) == {0}
    assert torch.equal(outcome(scenario(method | {"recompute": True}, stages, updates=15, cluster=HETEROGENEOUS))[0], params)


@pytest.mark.parametrize("stages", [1, 2, 3, 4])
def test_features_replay(stages):
    case = scenario("features_replay", stages)
    assert torch.equal(outcome(case)[0], features_replay(net_of(case), UPDATES, LR))


@pytest.mark.parametrize("stages", [2, 4])
def test_current_weights_under_old_activations(stages):
    """What the public code does: no stash. Against a backward pass written by hand."""
    case = scenario({"kind": "fdg", "update_first": False, "backward_weights": "current"}, stages)
    if stages == 4:
        expected = old_activations_new_weights(net_of(case), UPDATES, LR, lambda k: 2 * (stages - k))
        torch.testing.assert_close(outcome(case)[0], expected, rtol=0, atol=1e-12)
    stashed = outcome(scenario({"kind": "fdg", "update_first": False}, stages))[0]
    assert not torch.allclose(outcome(case)[0], stashed, atol=1e-6)


def test_loops_of_different_staleness_differ():
    """The comparison above can fail."""
    case = scenario("pipedream")
    loops = [delayed(net_of(case), UPDATES, LR, partial(lambda tau, k: tau, tau)) for tau in (0, 1, 2)]
    assert not torch.equal(loops[0], loops[1])
    assert not torch.equal(loops[1], loops[2])
