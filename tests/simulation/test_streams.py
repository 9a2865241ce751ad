"""Streams: items that arrive by the clock, are predicted, and learnt or not (reference, family of pipelines, 5.1 and 8.2)."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

import asyncsim
from asyncsim.registries import methods
from asyncsim.scenario import ScenarioError

TASK = {"kind": "digits", "model": {"kind": "mlp", "hidden": [12]}, "batch": 5, "partition": "one_order"}
CUT = TASK | {"model": {"kind": "mlp", "hidden": [12, 12, 12]}}


@pytest.fixture(autouse=True)
def _one_thread(one_thread):
    """A plain loop stands beside the runs."""


@pytest.fixture
def items(make):
    """``items(workers, compute, period, ...)``: a scenario in which 40 items arrive."""

    def items(workers=1, compute="1s", period=1_000_000_000, turns=None, decay=1.0, **sections):
        stream = {"period": f"{period}ns", "turns": turns, "decay": decay}
        base = {"task": TASK, "run": {"time": f"{40 * period}ns"}, "evaluate": {"updates": 10_000}, "optimizer": {"lr": 0.3}}
        return make(workers, compute, stream=stream, **(base | sections))

    return items


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("stages", [1, 3])
def test_workers_in_turn_keep_up_exactly_when_there_are_enough(items, workers, stages):
    """With N workers of t = t_f + t_b a stage no item passes exactly when N t_d >= t; a nanosecond less, and one does. So it is
    for pipelines in 1F1B, whose stages take t each."""
    cut = {"task": CUT, "stages": {"count": stages, "time": "equal"}, "method": {"kind": "pipedream", "sharing": "asynchronous"}}
    sections = cut if stages > 1 else {}
    spent = stages * workers * 1_200_000_000
    enough, short = (asyncsim.plan(items(workers * stages, f"{time}ns", 1_200_000_000, **sections))
                     for time in (spent, spent + 2 * stages * workers))  # fmt: skip
    assert enough.summary["items_taken"] == enough.summary["items"] == 40
    assert short.summary["items_taken"] < 40


def loop(scenario, free_after, order):
    """Predict an item, then learn it unless the last one is still being computed: parameters and accuracy in the end."""
    task = scenario.task.build(scenario.seed, "cpu", "float64", 1)
    theta, busy, pending, right = task.init(), -1, None, []
    layers = list(task.module.named_parameters())

    def scores(vector, inputs):
        pieces = vector.split([parameter.numel() for _, parameter in layers])
        named = {name: piece.reshape(parameter.shape) for (name, parameter), piece in zip(layers, pieces, strict=True)}
        return torch.func.functional_call(task.module, named, (inputs,))

    samples, targets = task.splits["train"]
    for item in range(40):
        now = item * 1_000_000_000
        if pending is not None and busy <= now:
            theta, pending = theta - 0.3 * pending, None
        x, y = samples[order[item]], targets[order[item]]
        right.append((scores(theta, x).argmax(1) == y).double().mean().item())
        if pending is None:
            leaf = theta.clone().requires_grad_()
            (pending,) = torch.autograd.grad(torch.nn.functional.cross_entropy(scores(leaf, x), y), leaf)
            busy = now + free_after
    return theta, float(np.mean(right))


@pytest.mark.parametrize("partition", ["one_order", {"kind": "class_incremental", "tasks": 5}], ids=["iid", "by class"])
@pytest.mark.parametrize("compute", [1_000_000_000, 2_500_000_000])
def test_the_loop(items, partition, compute):
    """1-Skip once more without the simulator: online accuracy and parameters."""
    scenario = items(1, f"{compute}ns", task=TASK | {"partition": partition}, dtype="float64")
    result = asyncsim.simulate(scenario)
    task = scenario.task.build(scenario.seed, "cpu", "float64", 1)
    sampler = scenario.task.partition.sampler(
        len(task.splits["train"][0]), task.splits["train"][1].numpy(), 5, 1, asyncsim.streams.Streams(0)
    )
    theta, accuracy = loop(scenario, compute, torch.from_numpy(sampler.block(0, 0)))
    torch.testing.assert_close(torch.from_numpy(result.parameters), theta, rtol=1e-12, atol=1e-12)
    assert result.summary["online_accuracy"] == pytest.approx(accuracy, rel=1e-12)


def test_classes_come_task_by_task():
    """Two classes at a time: every label of the first task comes before any of the second, and the order is a permutation."""
    from asyncsim.streams import Streams
    from asyncsim.tasks.partition import ClassIncremental

    labels = np.random.default_rng(0).integers(10, size=400)
    walked = ClassIncremental(tasks=5).sampler(400, labels, 5, 1, Streams(3))
    order = np.concatenate([walked.block(worker, number) for worker, number in ((0, 0), (7, 0))])[:80].reshape(-1)
    assert sorted(order) == list(range(400))
    assert (np.diff(labels[order] // 2) >= 0).all()
    assert len(np.unique(labels[order[:60]])) == 2


def test_who_keeps_up_is_the_oracle(items):
    """One worker that is done by the next arrival, at the very instant even, learns as one that takes no time; online accuracy
    and parameters are its own, bit for bit. One that is slower is not it."""
    oracle, skip, slow = (asyncsim.simulate(items(1, compute)) for compute in ("1ns", "1s", "1001ms"))
    assert skip.summary["items_taken"] == oracle.summary["items_taken"] == 40
    assert skip.summary["online_accuracy"] == oracle.summary["online_accuracy"]
    assert not np.array_equal(skip.parameters, slow.parameters)
    last = asyncsim.simulate(items(1, "1ns", run={"updates": 39}))  # the oracle has learnt the last item too
    assert np.array_equal(skip.parameters, last.parameters)
    assert slow.summary["items_taken"] == 20


def test_the_adaptation_rate(items):
    """R = exp(-c r) where each item is learnt r after its arrival; the value of an item where it is learnt at once; 0 where none
    is. A buffer of two makes every other item wait for the next."""
    at_once = asyncsim.plan(items(1, "1ns")).summary
    assert at_once["adaptation_rate"] == pytest.approx(1, abs=1e-8)
    assert at_once["items_learnt"] == 40
    later = asyncsim.plan(items(2, "1500ms", decay=0.4)).summary
    assert later["adaptation_rate"] == pytest.approx(later["items_learnt"] / 40 * math.exp(-0.4 * 1.5), rel=1e-12)
    never = asyncsim.plan(items(1, "1h")).summary
    assert (never["adaptation_rate"], never["items_learnt"], never["items_taken"]) == (0, 0, 1)
    pairs = {"kind": "custom", "policy": [{"kind": "accumulate", "count": 2}]}
    both = asyncsim.plan(items(1, "1ns", method=pairs, decay=0.4)).summary
    assert both["adaptation_rate"] == pytest.approx((1 + math.exp(-0.4)) / 2, rel=1e-8)
    dropped = asyncsim.plan(items(3, "2500ms", method={"kind": "asgd", "before": [{"kind": "drop_stale", "bound": 0}]})).summary
    assert dropped["items_learnt"] < dropped["items_taken"] == 40


def test_turns_without_a_worker_pass(items):
    """Two of four workers are left: items 0, 1, 4, 5, ... are taken, however fast they are. With a turn each, all are."""
    run = asyncsim.plan(items(2, "1ns", turns=4))
    assert [step % 4 for step in run.updates["step"]] == [0, 1] * 10
    assert (run.updates["worker"] == run.updates["step"] % 4).all()
    assert asyncsim.plan(items(2, "1ns", turns=2)).summary["items_taken"] == 40


def test_stages_learn_one_item_after_the_other(items):
    """In a pipeline that is too slow all stages learn the same items, in their order, each of them an item of its turn."""
    sections = {"task": CUT, "stages": {"count": 2, "time": "equal"}, "method": {"kind": "pipedream", "sharing": "asynchronous"}}
    updates = asyncsim.simulate(items(4, "7s", **sections)).updates
    for worker, rows in updates.groupby("worker"):
        steps = rows["step"].tolist()
        assert all(one < other for one, other in pairwise(steps))
        assert {step % 2 for step in steps} == {worker // 2}
        first = updates.loc[updates["worker"] == worker // 2 * 2, "step"].tolist()
        assert steps[: len(first)] == first


def test_crashes_and_leavers_pass_items_by(items):
    """What a worker had begun is lost; when it is back it waits for its next item. Who has left takes none any more."""
    cluster = {"faults": {"up": {"kind": "exponential", "mean": "6s"}, "down": "2s"}, "events": [
        {"at": "30s", "workers": [1], "stop": True}]}  # fmt: skip
    scenario = items(2, "1500ms", cluster=cluster)
    run = asyncsim.simulate(scenario)
    assert run.summary["items_learnt"] < run.summary["items_taken"] < run.summary["items"] == 40
    assert run.updates.loc[run.updates["worker"] == 1, "time"].max() < 30
    assert run.updates["step"].is_unique
    assert asyncsim.plan(scenario).fingerprints["timeline"] == run.fingerprints["timeline"]


def test_a_crash_of_the_server_unlearns(items):
    """What updates since the last save had learnt is lost with them."""
    cluster = {"server": {"faults": {"up": "7s", "down": "1s"}, "checkpoint": "3s"}}
    summary = asyncsim.plan(items(2, "1500ms", cluster=cluster)).summary
    assert summary["lost_updates"] > 0
    assert summary["items_learnt"] == summary["updates"] == summary["pushes"] - summary["lost_updates"]


@pytest.mark.slow
@pytest.mark.parametrize("stages", [1, 3])
def test_every_method_learns_or_is_refused(items, stages):
    """Under crashes, in one stage and in three: no item twice, and a plan that is the run; or one line that says why not."""
    learnt, refused = set(), []
    for kind, cls in methods:
        if not cls.__module__.startswith("asyncsim."):
            continue
        given = {"k_sync": {"k": 2}, "softsync": {"n": 2}, "ssp": {"bound": 1}, "rennala": {"batch": 2}, "adl": {"accumulate": 2}}
        cluster = {"faults": {"up": {"kind": "exponential", "mean": "20s"}, "down": "1s"}}
        try:
            case = items(2 * stages, {"kind": "exponential", "mean": "1500ms"}, task=CUT, stages=stages, cluster=cluster,
                         method={"kind": kind, **given.get(kind, {})}, optimizer={"lr": 0.05, "momentum": 0.5})  # fmt: skip
        except ScenarioError as error:
            refused.append(str(error))
            continue
        run = asyncsim.simulate(case)
        assert 0 < run.summary["items_learnt"] <= run.summary["items_taken"] < 40, kind
        assert all(rows["step"].is_unique for _, rows in run.updates.groupby(run.updates["worker"] % stages)), kind
        assert case.bundle().decided_by_values or asyncsim.plan(case).fingerprints["timeline"] == run.fingerprints["timeline"]
        learnt.add(kind)
    assert all(any(word in told for word in ("stream", "whole models", "micro-batches")) for told in refused), refused
    assert {"asgd", "bsp", "iter_fisher", "ferret"} <= learnt if stages == 1 else {"pipedream", "fdg", "bp", "ferret"} <= learnt


@pytest.mark.parametrize("engine", ["batched", "threaded"])
def test_other_engines(items, engine):
    """They learn the same items, and predict as many right but for a rounding."""
    serial, other = (asyncsim.simulate(items(3, "2500ms", engine=each, dtype="float64")) for each in ("serial", engine))
    assert serial.fingerprints["timeline"] == other.fingerprints["timeline"]
    assert other.summary["online_accuracy"] == serial.summary["online_accuracy"]
    np.testing.assert_allclose(other.parameters, serial.parameters, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("sections", "word"), [
    ({"task": TASK | {"partition": "shuffled"}}, "class_incremental"), ({"task": {"kind": "quadratic", "dim": 2}}, "one_order"),
    ({"method": "local_sgd"}, "local_sgd"), ({"workers": 3, "turns": 2}, "3 is the least"),
    ({"workers": 2, "method": {"kind": "asgd", "exchange": "pairs"}}, "peers"), ({"period": 1, "run": {"time": "10h"}}, "stream"),
])  # fmt: skip
def test_what_is_refused(items, sections, word):
    with pytest.raises(asyncsim.UserError, match=word) as told:
        asyncsim.plan(items(**sections))
    assert isinstance(told.value, ScenarioError) or word == "stream"
