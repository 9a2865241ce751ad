"""PipeMare and SpecTrain as methods: their boundaries bit for bit, and predicted parameters against a plain loop."""

from __future__ import annotations

import pytest
import torch
from plain_loops import Net, flat

import asyncsim
from asyncsim.policies.prediction import ahead
from asyncsim.scenario import Scenario

LR, MOMENTUM, UPDATES, STAGES = 0.05, 0.5, 40, 3


def scenario(method, momentum=MOMENTUM, **more):
    return Scenario.model_validate({
        "name": "prediction",
        "task": {"kind": "digits", "batch": 16, "model": {"kind": "mlp", "hidden": [24, 20], "activation": "tanh"}},
        "cluster": {"workers": STAGES}, "stages": {"count": STAGES, "split": "layers"}, "method": method,
        "optimizer": {"kind": "sgd", "lr": LR, "momentum": momentum}, "run": {"updates": UPDATES}, "dtype": "float64",
        "evaluate": {"updates": UPDATES},
    } | more)  # fmt: skip


def outcome(method, momentum=MOMENTUM, **more):
    return torch.from_numpy(asyncsim.simulate(scenario(method, momentum, **more)).parameters)


@pytest.mark.parametrize("horizon", ["1f1b", "ticks", "spectrain_v2", 1.5, 0])
def test_one_prediction_for_both_passes(horizon):
    """The gradient of stage r is taken at what the stage predicted N - r - 1 updates ago: 1e-12 of a loop with lists of
    parameters, velocities and predictions."""
    case = scenario({"kind": "spectrain", "horizon": horizon})
    task = case.task.build(case.seed, "cpu", "float64", 1)
    net = Net(task.module, case.cut().layers, lambda n: task.batch(0, n))
    params, views, velocity = net.start, [net.start], None
    for batch in range(UPDATES):
        read = [views[max(0, batch - (STAGES - 1 - k))][k] for k in range(STAGES)]
        gradient, _ = net.gradient(batch, read)
        if velocity is None:
            velocity = gradient
        else:
            velocity = [[MOMENTUM * v + g for v, g in zip(*pair, strict=True)] for pair in zip(velocity, gradient, strict=True)]
        params = [[p - LR * v for p, v in zip(*pair, strict=True)] for pair in zip(params, velocity, strict=True)]
        steps = [ahead(horizon, k, STAGES)[0] for k in range(STAGES)]
        views.append([[p - steps[k] * LR * v for p, v in zip(params[k], velocity[k], strict=True)] for k in range(STAGES)])
    torch.testing.assert_close(outcome(case.method.settings()), flat(params), rtol=0, atol=1e-12)


def test_boundaries():
    """No horizon, or no momentum: PipeDream. Neither T1 nor T2: PipeDream without a stash. Bit for bit; all else
    differs."""
    pipedream, naive = outcome("pipedream"), outcome({"kind": "pipedream", "backward_weights": "current"})
    assert torch.equal(outcome({"kind": "spectrain", "horizon": 0}), pipedream)
    still = outcome({"kind": "spectrain", "horizon": "spectrain_v2"}, momentum=0.0)
    assert torch.equal(still, outcome("pipedream", momentum=0.0))
    assert torch.equal(outcome({"kind": "pipemare", "anneal": 0, "correct": False}), naive)
    others = [outcome(method) for method in
              ("spectrain", "pipemare", {"kind": "pipemare", "anneal": 0}, {"kind": "pipemare", "correct": False})]  # fmt: skip
    everything = [pipedream, naive, *others]
    assert all((one - two).abs().max() > 1e-6 for index, one in enumerate(everything) for two in everything[:index])


def test_the_correction_comes_closer_to_the_stash():
    """On a slow run the guessed parameters leave less than half of what the missing stash changes."""
    slow = {"optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9}}
    stashed = outcome("pipedream", **slow)
    naive = outcome({"kind": "pipemare", "anneal": 0, "correct": False}, **slow)
    corrected = outcome({"kind": "pipemare", "anneal": 0}, **slow)
    assert (corrected - stashed).norm() < 0.5 * (naive - stashed).norm()


@pytest.mark.parametrize("momentum", [{"kind": "adam"}, {"kind": "sgd", "momentum": 0.9, "nesterov": True}])
@pytest.mark.parametrize("method", ["spectrain", "nesterov_pipeline"])
def test_predictions_need_heavy_ball_momentum(method, momentum):
    with pytest.raises(ValueError, match=r"heavy-ball momentum of the optimizer sgd, not (adam|nesterov)"):
        scenario(method, optimizer=momentum)
