"""Pipelined backpropagation and PipeOptim: loops over batches written from the equations, and their boundaries."""

from __future__ import annotations

import pytest
import torch
from plain_loops import Net, flat
from staged import final, staged

import asyncsim

LR, MOMENTUM, UPDATES, STAGES = 0.02, 0.6, 30, 3
SGD = {"kind": "sgd", "lr": LR, "momentum": MOMENTUM, "weight_decay": 0.02}
ADAM = {"kind": "adam", "lr": 0.01, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "weight_decay": 0.1}
BARE = {"kind": "pipelined_backprop", "compensate": False, "predict": "none"}


def scenario(method, optimizer=SGD, stages=STAGES, **more):
    return staged(method, optimizer, stages, UPDATES, hidden=[24, 20], **more)


def outcome(method, optimizer=SGD, **more):
    return final(scenario(method, optimizer, **more))


def net_of(case):
    task = case.task.build(case.seed, "cpu", "float64", 1)
    return Net(task.module, case.cut().layers, lambda n: task.batch(0, n))


def pipelined(case):
    """``v <- m v + d``, ``w <- w - lr (a v + b d)``; a pass reads what the stage handed out D = 2 (later stages) updates ago."""
    net, method, rule = net_of(case), case.method, case.optimizer
    params, views, velocity = net.start, [net.start], None
    for batch in range(UPDATES):
        lags = [2 * (STAGES - 1 - k) for k in range(STAGES)]
        gradient, _ = net.gradient(batch, [views[max(0, batch - lags[k])][k] for k in range(STAGES)])
        after, look, speeds = [], [], []
        for k, lag in enumerate(lags):
            late = min(batch, lag) if method.compensate else 0
            a, b = rule.momentum**late, (1 - rule.momentum**late) / (1 - rule.momentum)
            ds = [g + rule.weight_decay * p for g, p in zip(gradient[k], params[k], strict=True)]
            vs = ds if velocity is None else [rule.momentum * v + d for d, v in zip(ds, velocity[k], strict=True)]
            news = [p - rule.lr * (a * v + b * d) for p, v, d in zip(params[k], vs, ds, strict=True)]
            ahead = {"none": [0 * p for p in news], "velocity": [-rule.lr * v for v in vs],
                     "weights": [new - old for new, old in zip(news, params[k], strict=True)]}[method.predict]  # fmt: skip
            after.append(news)
            speeds.append(vs)
            look.append([p + lag * move for p, move in zip(news, ahead, strict=True)])
        params, velocity = after, speeds
        views.append(look)
    return flat(params)


@pytest.mark.parametrize("predict", ["none", "velocity", "weights"])
@pytest.mark.parametrize("compensate", [True, False])
def test_pipelined_backpropagation(compensate, predict):
    """1e-12 of the loop, and every one of the six differs from every other unless the update is ``lr * v``."""
    method = {"kind": "pipelined_backprop", "compensate": compensate, "predict": predict}
    seen = outcome(method)
    torch.testing.assert_close(seen, pipelined(scenario(method)), rtol=0, atol=1e-12)
    assert compensate or predict != "none" or torch.equal(seen, outcome({"kind": "fdg", "update_first": False}))
    assert (compensate, predict) == (False, "none") or (seen - outcome(BARE)).abs().max() > 1e-6


def test_the_two_forms_agree_without_spike_compensation_only():
    """``w_t - w_(t-1)`` is ``-lr v`` where that is the update; with spike compensation it is not."""
    for compensate in (False, True):
        forms = [outcome(BARE | {"compensate": compensate, "predict": form}) for form in ("velocity", "weights")]
        assert torch.allclose(*forms, rtol=0, atol=1e-13) is not compensate


@pytest.mark.parametrize("predict", ["none", "velocity", "weights"])
def test_one_stage_is_momentum_sgd(predict):
    """D = 0: a is 1, b is 0, and nothing is predicted."""
    alone = outcome({"kind": "pipelined_backprop", "predict": predict}, stages=1)
    assert torch.equal(alone, outcome("asgd", stages=1))


def test_its_staleness_is_the_lag():
    updates = asyncsim.plan(scenario("pipelined_backprop")).updates
    for stage in range(STAGES):
        steady = updates[(updates["worker"] == stage) & (updates["step"] >= 2 * STAGES)]
        assert set(steady["staleness"]) == {2 * (STAGES - 1 - stage)}


# PipeOptim.


def by_hand(case, stash):
    """Stages of one linear layer and tanh, differentiated by hand: activations of the predicted parameters, and under them the
    matrices of the backward pass's own time (or those of the forward pass, with a stash)."""
    net, rule = net_of(case), case.optimizer
    params = [[p.clone() for p in stage] for stage in net.start]
    views = [[[p.clone() for p in stage]] for stage in net.start]
    moments = [[(torch.zeros_like(p), torch.zeros_like(p)) for p in stage] for stage in net.start]
    for batch in range(UPDATES):
        x, y = net.batches(batch)
        x, saved = x.flatten(1), []
        for k in range(STAGES):
            weight, bias = views[k][max(0, batch - (STAGES - 1 - k))]
            raw = x @ weight.t() + bias
            out = torch.tanh(raw) if k < STAGES - 1 else raw
            saved.append((x, out, weight))
            x = out
        error = (torch.softmax(x, 1) - torch.nn.functional.one_hot(y, x.shape[1])) / len(y)
        for k in reversed(range(STAGES)):
            below, out, read = saved[k]
            error = error if k == STAGES - 1 else error * (1 - out**2)
            gradient = [error.t() @ below, error.sum(0)]
            error = error @ (read if stash else params[k][0])
            look = []
            for i, g in enumerate(gradient):
                m, v = moments[k][i]
                d = g + rule.weight_decay * params[k][i]
                if rule.kind == "sgd":
                    m = rule.momentum * m + d
                    u = m
                else:
                    m, v = rule.beta1 * m + (1 - rule.beta1) * d, rule.beta2 * v + (1 - rule.beta2) * d**2
                    u = m / (1 - rule.beta1 ** (batch + 1)) / ((v / (1 - rule.beta2 ** (batch + 1))).sqrt() + rule.eps)
                moments[k][i] = m, v
                params[k][i] = params[k][i] - rule.lr * u
                look.append(params[k][i] - rule.lr * (STAGES - 1 - k) * u)
            views[k].append(look)
    return flat(params)


@pytest.mark.parametrize("weights", ["current", "stashed"])
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_pipeoptim(optimizer, weights):
    """1e-12 of the loop by hand; without prediction it is another run."""
    method = {"kind": "pipeoptim", "backward_weights": weights}
    seen = outcome(method, optimizer)
    torch.testing.assert_close(seen, by_hand(scenario(method, optimizer), weights == "stashed"), rtol=0, atol=1e-12)
    assert (seen - outcome({"kind": "pipedream", "backward_weights": weights}, optimizer)).abs().max() > 1e-6


def test_boundaries_of_pipeoptim():
    """No horizon: PipeDream without a stash, its bits. SGD with a stash: SpecTrain's `1f1b`. Decoupled decay is not predicted."""
    for optimizer in (SGD, ADAM):
        naive = outcome({"kind": "pipedream", "backward_weights": "current"}, optimizer)
        assert torch.equal(outcome({"kind": "pipeoptim", "horizon": 0}, optimizer), naive)
        assert torch.equal(outcome("pipeoptim", optimizer, stages=1), outcome("asgd", optimizer, stages=1))
    stashed = outcome({"kind": "pipeoptim", "backward_weights": "stashed"})
    assert torch.equal(stashed, outcome({"kind": "spectrain", "horizon": "1f1b"}))


@pytest.mark.parametrize("method", ["pipelined_backprop", "pipeoptim"])
def test_other_optimizers_are_refused(method):
    for optimizer in ({"kind": "nadam"}, SGD | {"nesterov": True}):
        with pytest.raises(ValueError, match=r"takes the heavy-ball momentum of the optimizer sgd, not (nadam|nesterov)"):
            scenario(method, optimizer)
