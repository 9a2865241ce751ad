"""Learning rate 0: every stage's gradient is that of the whole model, whatever the schedule."""

from __future__ import annotations

import pytest
import torch

import asyncsim
from asyncsim.scenario import Scenario
from asyncsim.simulation.shard import Shard
from asyncsim.streams import Streams
from asyncsim.tasks.task import Task

METHODS = {
    "fdg": {"kind": "fdg"},
    "fdg, forward first": {"kind": "fdg", "update_first": False},
    "fdg, current": {"kind": "fdg", "backward_weights": "current"},
    "fdg, replayed": {"kind": "fdg", "backward_weights": "replayed"},
    "fdg, beta": {"kind": "fdg", "beta": 0.5},
    "adl": {"kind": "adl", "accumulate": 2},
    "ddg": {"kind": "ddg", "beta": 0.5},
    "features replay": {"kind": "features_replay"},
    "pipedream": {"kind": "pipedream"},
    "vertical sync": {"kind": "pipedream", "vertical_sync": True},
    "2bw": {"kind": "pipedream_2bw"},
    "gpipe": {"kind": "gpipe", "micro_batches": 2},
    "flush": {"kind": "gpipe", "micro_batches": 4, "interleaved": True},
    "bp": {"kind": "bp"},
    "nesterov": {"kind": "nesterov_pipeline"},
    "data parallel": {"kind": "decoupled_data_parallel"},
}
TEXT = {"context": 8, "dim": 8}
TASKS = {
    "mlp": {"kind": "digits", "model": {"kind": "mlp", "hidden": [12, 10, 8]}},
    "cnn": {"kind": "mnist5k", "model": "cnn"},
    "resnet8": {"kind": "mnist5k", "model": "resnet8"},
    "resnet8, running": {"kind": "mnist5k", "model": "resnet8", "batch_norm": "running"},
    "transformer": {"kind": "pydoc_lm", "model": {"kind": "transformer", "layers": 2, "heads": 2, **TEXT}},
    "dropout": {"kind": "pydoc_lm", "model": {"kind": "transformer", "layers": 2, "heads": 2, "dropout": 0.3, **TEXT}},
    "char mlp": {"kind": "pydoc_lm", "model": "char_mlp"},
    "deep fm": {"kind": "click_through", "samples": 500},
}


def scenario(task, method, stages, groups=1, updates=8):
    return Scenario.model_validate({
        "task": {**TASKS[task], "batch": 12}, "cluster": {"workers": groups * stages},
        "stages": {"count": stages, "split": "layers"}, "method": METHODS[method], "dtype": "float64",
        "optimizer": {"kind": "sgd", "lr": 0.0}, "run": {"updates": updates}, "evaluate": {"updates": updates},
    })  # fmt: skip


def whole(task, streams, layers, member, batch, parts):
    """The gradients of all stages in one pass through the whole model, ``(P_k,)`` each."""
    inputs, targets = task.batch(member, batch // parts)
    values, targets = inputs.chunk(parts)[batch % parts], targets.chunk(parts)[batch % parts]
    task.bind(task.init())
    task.module.train()
    begin = 0
    for stage, count in enumerate(layers):
        if task.has_masks:
            task.seed_masks(streams.integer("dropout", member, batch, stage))
        values = task.module[begin : begin + count](values)
        begin += count
    flat = torch.cat([g.reshape(-1) for g in torch.autograd.grad(task.loss(values, targets), list(task.module.parameters()))])
    return [flat[stage.parameters] for stage in task.stages]


def check(monkeypatch, case, method):
    seen = {}
    arrive = Shard.take_in

    def noting(self, member, step, snapshot, work, now, up):
        if work is not None:  # a plan, which the suite compares every run with, has none
            seen[self.stage, member, step] = work.result().gradient.clone()
        return arrive(self, member, step, snapshot, work, now, up)

    monkeypatch.setattr(Shard, "take_in", noting)
    monkeypatch.setattr(Task, "evaluate", lambda task, *_, **__: dict.fromkeys(task.metrics, 0.0))
    asyncsim.simulate(case)
    task = case.task.build(case.seed, "cpu", "float64", case.groups)
    layers, parts, shrink = case.cut().layers, case.bundle().program.num_micro_batches, METHODS[method].get("beta", 1.0)
    task.split(layers)
    assert {stage for stage, _, _ in seen} == set(range(len(layers)))
    for member, batch in {key[1:] for key in seen}:
        expected = whole(task, Streams(case.seed), layers, member, batch, parts)
        for stage, gradient in enumerate(expected):
            found = seen.get((stage, member, batch))
            if found is not None:
                power = shrink ** (len(layers) - 1 - stage)
                torch.testing.assert_close(found, gradient * power, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_every_method(monkeypatch, method):
    check(monkeypatch, scenario("mlp", method, 4, groups=2), method)


@pytest.mark.parametrize("method", ["fdg, current", "features replay"])
@pytest.mark.parametrize("task", [name for name in TASKS if name != "mlp"])
def test_every_model(monkeypatch, task, method):
    check(monkeypatch, scenario(task, method, 2 if task == "deep fm" else 3, updates=3), method)
