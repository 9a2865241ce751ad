"""PipeMare's three techniques together, against a loop over batches that is differentiated by hand."""

from __future__ import annotations

import itertools

import pytest
import torch
from plain_loops import Net, flat
from staged import finished, staged

import asyncsim

LR, MOMENTUM, UPDATES, STAGES = 0.05, 0.6, 30, 3


def scenario(method, **more):
    return staged(method, {"kind": "sgd", "lr": LR, "momentum": MOMENTUM}, STAGES, UPDATES, hidden=[24, 20], **more)


def outcome(method, **more):
    result = finished(scenario(method, **more))
    return torch.from_numpy(result.parameters), result


def loop(case):
    """One batch an update. Stage k of K reads K - k updates late, after the warm-up; its backward pass uses ``theta - tau delta``
    under the activations of its forward pass, and ``tau`` is the staleness of the stage's batch before."""
    method = case.method
    task = case.task.build(case.seed, "cpu", "float64", 1)
    net = Net(task.module, case.cut().layers, lambda n: task.batch(0, n))
    params = [[p.clone() for p in stage] for stage in net.start]
    history = [[[p.clone() for p in stage]] for stage in net.start]
    velocity = [[torch.zeros_like(p) for p in stage] for stage in net.start]
    delta = [[torch.zeros_like(p) for p in stage] for stage in net.start]
    newest = [0] * STAGES
    for batch in range(UPDATES):
        x, y = net.batches(batch)
        x, saved = x.flatten(1), []
        for k in range(STAGES):
            read = batch if batch < method.warmup else max(method.warmup, batch - (STAGES - 1 - k))
            weight, bias = history[k][read]
            raw = x @ weight.t() + bias
            out = torch.tanh(raw) if k < STAGES - 1 else raw
            saved.append((x, out, batch - read))
            x = out
        error = (torch.softmax(x, 1) - torch.nn.functional.one_hot(y, x.shape[1])) / len(y)
        for k in reversed(range(STAGES)):
            below, out, staleness = saved[k]
            error = error if k == STAGES - 1 else error * (1 - out**2)
            gradient = [error.t() @ below, error.sum(0)]
            used = params[k][0]
            if method.correct and k < STAGES - 1:
                used = used - newest[k] * delta[k][0]
            error = error @ used
            newest[k] = staleness
            tau = max(staleness if method.tau == "observed" else 2 * (STAGES - 1 - k) + 1, 1)
            p = 1 - min((batch - method.warmup) / method.anneal, 1) if method.anneal and batch >= method.warmup else 0
            gamma = method.decay ** (1 / staleness) if staleness else 0.0
            for i, g in enumerate(gradient):
                velocity[k][i] = MOMENTUM * velocity[k][i] + g / tau**p
                move = -LR * velocity[k][i]
                params[k][i] = params[k][i] + move
                delta[k][i] = gamma * delta[k][i] + (1 - gamma) * move
            history[k].append([p.clone() for p in params[k]])
    return flat(params)


CASES = [
    {"anneal": anneal, "correct": correct, "warmup": warmup, "tau": tau}
    for anneal, correct, warmup, tau in itertools.product((0, 12), (True, False), (0, 7), ("observed", "paper"))
    if anneal or tau == "observed"
]


@pytest.mark.parametrize("options", CASES, ids=str)
def test_the_techniques_are_their_equations(options):
    """T1, T2 and T3 in every combination: 1e-12 of the loop."""
    case = scenario({"kind": "pipemare"} | options)
    torch.testing.assert_close(outcome(case.method.settings())[0], loop(case), rtol=0, atol=1e-12)


def test_a_warm_up_that_never_ends_is_gpipe():
    """The bits and the timeline of ``gpipe`` with as many micro-batches; and of a shorter one the first updates."""
    for parts in (1, 4):
        pipe, result = outcome({"kind": "pipemare", "micro_batches": parts, "warmup": UPDATES})
        other, flushed = outcome({"kind": "gpipe", "micro_batches": parts})
        assert torch.equal(pipe, other)
        assert result.fingerprints == flushed.fingerprints
        shorter = outcome({"kind": "pipemare", "micro_batches": parts, "warmup": 10})[1].updates
        assert shorter[shorter["version"] < 10]["staleness"].max() == 0
        assert not torch.equal(outcome({"kind": "pipemare", "micro_batches": parts, "warmup": 10})[0], other)


@pytest.mark.parametrize("parts", [1, 2])
def test_after_the_warm_up_it_is_asynchronous(parts):
    """Staleness 0 in the warm-up; after it stage k reads what it had when it ended until K - k batches are on their way."""
    method = {"kind": "pipemare", "warmup": 10, "micro_batches": parts}
    result = outcome(method)[1]
    updates = result.updates
    for stage in range(STAGES):
        rows = updates[updates["worker"] == stage]
        early, late = rows[rows["step"] < 10 * parts], rows[rows["step"] >= 10 * parts]
        assert set(early["staleness"]) == {0}
        lag = STAGES - 1 - stage
        law = late["step"] // parts - (late["step"] - lag).clip(lower=10 * parts) // parts
        assert (late["staleness"] == law).all()
    assert asyncsim.plan(scenario(method)).fingerprints["timeline"] == result.fingerprints["timeline"]
