"""Ferret (reference, family of pipelines, section 5): pipelines in turn at a stream, with less memory, against loops and laws."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from plain_loops import Net, flat
from staged import final, finished, staged

import asyncsim
from asyncsim.scenario import ScenarioError, build_scenario
from asyncsim.theory import ferret_plan as planning

HIDDEN = {1: [10], 2: [10], 3: [12, 10], 4: [12, 10, 8]}
PLAIN = {"kind": "sgd", "lr": 0.05}
SECOND = 1_000_000_000


def ferret(stages, pipelines=1, compute=None, time=40, stream=None, **settings):
    """Stages of equal time, 0.2 s forward and 0.4 s backward unless told otherwise."""
    compute = f"{600 * stages}ms" if compute is None else compute
    task = {"kind": "digits", "batch": 8, "model": {"kind": "mlp", "hidden": HIDDEN[stages], "activation": "tanh"},
            "partition": "one_order"}  # fmt: skip
    cluster = {"workers": stages * pipelines, "compute": compute}
    return staged({"kind": "ferret", **settings}, PLAIN, stages, 1, hidden=[], task=task, cluster=cluster,
                  stages={"count": stages, "split": "layers", "time": "equal"}, run={"time": time}, evaluate={"time": time},
                  stream=stream or {"period": "0.6s"})  # fmt: skip


def loop(case, result):
    """Who learns which item with which versions, from the records; the numbers from the equations."""
    method, stages = case.method, case.stages.count
    task = case.task.build(case.seed, "cpu", "float64", 1)
    net = Net(task.module, case.cut().layers, lambda n: task.batch(0, n))
    history = [[torch.cat([p.reshape(-1) for p in stage])] for stage in net.start]
    spans = result.events[result.events["kind"].isin(["forward", "compute", "inference"]) & result.events["complete"]]
    read = {(row.worker, row.step): row.version for row in spans.itertuples()}
    waiting = {}

    def cut(vector, stage):
        pieces = vector.split([p.numel() for p in net.start[stage]])
        return [piece.reshape(p.shape) for piece, p in zip(pieces, net.start[stage], strict=True)]

    for row in result.updates.itertuples():
        group, k = divmod(row.worker, stages)
        first = group * stages
        used = [cut(history[j][max(0, read.get((first + j, row.step), 0))], j) for j in range(stages)]
        gradients, _ = net.gradient(row.step, used)
        g = torch.cat([p.reshape(-1) for p in gradients[k]])
        road = history[k][row.read_version :]
        assert read[row.worker, row.step] == row.read_version
        for before, after in itertools.pairwise(road):
            g = g + method.lam * g * g * (after - before)
        kept = waiting.setdefault(row.worker, [])
        kept.append(g)
        if len(kept) == (method.accumulate[k] if method.accumulate else 1):
            history[k].append(road[-1] - PLAIN["lr"] * sum(kept) / len(kept))
            kept.clear()
        assert len(history[k]) - 1 == row.version
    return flat([[each[-1]] for each in history])


@pytest.mark.parametrize(("pipelines", "settings"), [
    (1, {"lam": 2.0}), (2, {"lam": 2.0, "accumulate": (2, 1, 1)}), (2, {"lam": 2.0, "omit": (2, 1, 0), "recompute": True}),
], ids=["M+", "accumulated", "omitted"])  # fmt: skip
def test_the_loop(pipelines, settings):
    """With one pipeline that keeps up, and with two that do not: some items pass."""
    case = ferret(3, pipelines, compute="1800ms" if pipelines == 1 else "5s", **settings)
    result = finished(case)
    torch.testing.assert_close(torch.from_numpy(result.parameters), loop(case, result), rtol=1e-12, atol=1e-12)
    assert result.updates["staleness"].max() >= (1 if settings.get("omit") else 2)
    assert (result.summary["items_taken"] == result.summary["items"]) == (pipelines == 1)


@pytest.mark.parametrize(("settings", "versions"), [
    ({}, (4, 3, 2, 1)), ({"accumulate": (2, 1, 1, 1)}, (3, 3, 2, 1)), ({"accumulate": (3, 2, 1, 1)}, (2, 2, 2, 1)),
    ({"accumulate": (5, 5, 5, 5)}, (2, 2, 2, 1)), ({"omit": (3, 2, 1, 0)}, (1, 1, 1, 1)), ({"omit": (3, 0, 0, 0)}, (1, 3, 2, 1)),
    ({"accumulate": (1, 2, 1, 1), "omit": (3, 0, 0, 0)}, (1, 2, 2, 1)),
])  # fmt: skip
def test_versions_in_flight(settings, versions):
    """Stage j of P keeps 1 + ceil((P-j-1) / c_a) versions: P - j for c_a = 1, 2 from c_a = P-j-1 on (1 at the last); and 1 where
    it omits P-j-1 of P-j backward passes."""
    run = asyncsim.plan(ferret(4, time=60, **settings))
    assert tuple(run.stages["versions"]) == versions
    lags = [3 - stage for stage in range(4)]
    counts = settings.get("accumulate", (1, 1, 1, 1))
    if "omit" not in settings:
        late = tuple(math.ceil(lag / count) for lag, count in zip(lags, counts, strict=True))
        assert versions == tuple(1 + each for each in late)
        assert tuple(run.stages["staleness_max"]) == late


def test_omitted_items_have_no_backward_pass():
    """(3, 1, 0, 0): the second stage does every other item, and the first every fourth, as an error signal has to come from
    above."""
    run = finished(ferret(4, omit=(3, 1, 0, 0)))
    done = [set(rows["step"]) for _, rows in run.updates.groupby("worker")]
    assert [sorted(each)[:4] for each in done] == [[0, 4, 8, 12], [0, 2, 4, 6], [0, 1, 2, 3], [0, 1, 2, 3]]
    passes = run.events[run.events["kind"] == "inference"]
    assert set(passes["worker"]) == {0, 1}
    assert not set(passes.loc[passes["worker"] == 0, "step"]) & done[0]


def test_its_simpler_ones():
    """Without compensation it is PipeDream, with its turns that of asynchronous groups; of one stage it is `iter_fisher`."""
    def like(method, stages, pipelines):
        return ferret(stages, pipelines, compute={"kind": "exponential", "mean": "3s"}).evolve(method=method)

    pipedream = {"kind": "pipedream", "sharing": "asynchronous"}
    for pipelines in (1, 2):
        assert torch.equal(final(like({"kind": "ferret", "lam": 0}, 3, pipelines)), final(like(pipedream, 3, pipelines)))
    assert torch.equal(final(like({"kind": "ferret", "accumulate": [1, 1, 1], "omit": [0, 0, 0]}, 3, 1)),
                       final(like({"kind": "pipedream", "before": ["iter_fisher"]}, 3, 1)))  # fmt: skip
    assert torch.equal(final(like({"kind": "ferret", "lam": 3}, 1, 3)), final(like({"kind": "iter_fisher", "lam": 3}, 1, 3)))
    assert not torch.equal(final(like({"kind": "ferret", "lam": 3}, 3, 1)), final(like({"kind": "ferret", "lam": 0}, 3, 1)))


def test_a_stage_that_crashes_goes_on():
    """With omission and accumulation, under crashes: stages learn items in order, and the run repeats itself."""
    case = ferret(3, 2, time=60, omit=(2, 0, 0), accumulate=(1, 2, 1)).evolve(
        {"cluster.faults": {"up": {"kind": "exponential", "mean": "15s"}, "down": "1s"}}
    )
    run = finished(case)
    assert run.summary["crashes"] > 5
    assert run.fingerprints == finished(case).fingerprints
    assert asyncsim.plan(case).fingerprints["timeline"] == run.fingerprints["timeline"]
    assert all(rows["step"].is_monotonic_increasing for _, rows in run.updates.groupby("worker"))


@pytest.mark.parametrize(("settings", "word"), [
    ({"accumulate": (1, 1)}, "3 stages"), ({"omit": (1, 0)}, "3 stages"), ({"omit": (1, 1, 1)}, "last stage"),
    ({"recompute": (True, False)}, "3 stages"), ({"omit": (2, 0, 0), "accumulate": (2, 1, 1)}, "one of them"),
])  # fmt: skip
def test_what_is_refused(settings, word):
    case = ferret(3).document()
    with pytest.raises(ScenarioError, match=word):
        build_scenario(asyncsim.scenario.Document(case | {"method": {"kind": "ferret", **settings}}, "test"))


# The planner.


def layers(*sizes):
    """Layers of 0.2 s forward and 0.4 s backward a unit, with parameters and activations of these sizes."""
    return [planning.Layer(0.2, 0.4, size, size / 4, size / 8) for size in sizes]


MODEL = layers(80, 400, 240, 160)


@pytest.mark.parametrize(("period", "settings"), [
    (0.6, {}), (0.6, {"accumulate": (3, 2, 1, 1)}), (0.6, {"omit": (3, 0, 0, 0)}), (0.3, {"accumulate": (1, 3, 1, 1)}),
    (0.4, {"recompute": (True, False, True, False)}),
])  # fmt: skip
def test_the_rate_of_a_plan_is_what_the_simulator_measures(period, settings):
    """R = mean over stages of 1 / e_j * mean of exp(-c r): of 240 items, after the pipelines have filled; and of the whole run,
    but for the items on their way at its end. What saves nothing has another."""
    pipelines = planning.Pipelines(MODEL, (1, 1, 1, 1), period, 0.2)
    plan = pipelines.judged(pipelines.unlimited()._replace(**settings))
    run = asyncsim.plan(ferret(4, plan.turns, compute="2400ms", time=320 * period,
                               stream={"period": f"{period}s", "decay": 0.2}, **settings))  # fmt: skip
    assert run.summary["items_taken"] == 320
    rows = run.updates
    rows["used"] = rows["time"].where(rows["outcome"] == "applied").groupby(rows["worker"]).bfill()
    worth = np.exp(-0.2 * (rows["used"] - rows["step"] * period))[(rows["step"] >= 24) & (rows["step"] < 264)]
    assert worth.sum() / 4 / 240 == pytest.approx(plan.rate, rel=1e-6)
    assert run.summary["adaptation_rate"] == pytest.approx(plan.rate, rel=0.05)
    assert not settings or plan.rate != pytest.approx(pipelines.judged(pipelines.unlimited()).rate, rel=1e-3)


def test_the_delay_of_every_stage_is_that_of_the_plan():
    """From an item's arrival to its update: (P-j-1) N t_d + (j+1) t_f + t_b, to the nanosecond, after the pipeline has filled."""
    updates = asyncsim.plan(ferret(4, 2, stream={"period": "0.3s"})).updates
    late = updates["time_ns"] - updates["step"] * 3 * SECOND // 10
    for worker, rows in late.groupby(updates["worker"]):
        stage = worker % 4
        assert set(rows[4:]) == {((3 - stage) * 6 + 2 * (stage + 1) + 4) * SECOND // 10}


@pytest.mark.parametrize("period", [0.25, 0.6, 0.9, 1.3])
def test_plans_keep_to_their_budget(period):
    """From M- to M+ the rate of the best plan never falls, and every plan is within its budget; below M- there is none."""
    most, least = planning.best(MODEL, period, 0.3), planning.least(MODEL, period, 0.3)
    assert most is not None
    assert planning.best(MODEL, period, 0.3, least.memory * 0.999) is None
    plans = [planning.best(MODEL, period, 0.3, budget) for budget in np.linspace(least.memory, most.memory, 12)]
    assert all(plan.memory <= budget * (1 + 1e-12) for plan, budget in
               zip(plans, np.linspace(least.memory, most.memory, 12), strict=True))  # fmt: skip
    assert plans[-1] == most
    assert plans[0].memory == least.memory
    assert all(one.rate <= other.rate + 1e-12 for one, other in itertools.pairwise(plans))


def test_steps_come_in_their_order():
    """Recomputing and accumulating everything that saves anything comes before the first omission, all of those before a pipeline
    is removed; the least has one pipeline of stages that keep one version of one batch."""
    pipelines = planning.Pipelines(MODEL, (1, 1, 1, 1), 0.3, 0.3)
    plans = [pipelines.within(budget) for budget in np.linspace(pipelines.least().memory, pipelines.unlimited().memory, 60)]
    assert all(plan.pipelines == plan.turns or plan.omit == (3, 2, 1, 0) for plan in plans)
    full = (3, 2, 1, 1)
    assert all(not any(plan.omit) or all(count == most or omitted for count, most, omitted in
               zip(plan.accumulate, full, plan.omit, strict=True)) for plan in plans)  # fmt: skip
    assert plans[0] == pipelines.least()
    assert plans[0][1:6] == (1, 2, (False,) * 4, (1,) * 4, (3, 2, 1, 0))
    assert plans[0].memory == sum(layer.parameters + layer.activations for layer in MODEL)


def test_the_scenario_is_what_the_planner_says():
    """M+, M (a budget halfway between) and M- of `scenarios/mnist5k_ferret.yaml`, for stages of one layer each."""
    study = asyncsim.load_study(Path(__file__).parents[2] / "scenarios" / "mnist5k_ferret.yaml")
    runs = dict(zip(study.labels, study.scenarios, strict=True))
    one = runs["ferret_m_plus"]
    model, batch, width = one.cut(), one.task.batch, one.task.model.hidden[0]
    sizes = [784 + 2 * width, 2 * width, 2 * width, 10]  # of what a sample leaves: inputs of the first, sums and rectified sums
    costs = [planning.Layer(1 / 12, 2 / 12, parameters, batch * left, batch * width)
             for parameters, left in zip(model.parameters, sizes, strict=True)]  # fmt: skip
    pipelines = planning.Pipelines(costs, (1, 1, 1, 1), one.stream.period, one.stream.decay)
    most, least = pipelines.unlimited(), pipelines.least()
    plans = {"ferret_m_plus": most, "ferret_m": pipelines.within((most.memory + least.memory) / 2), "ferret_m_minus": least}
    assert [round(plan.memory) for plan in plans.values()] == [731_700, 226_020, 65_100]
    for name, plan in plans.items():
        run, method = runs[name], runs[name].method
        assert (run.groups, run.stream.turns or run.groups) == (plan.pipelines, plan.turns), name
        assert (method.accumulate or (1,) * 4, method.omit or (0,) * 4) == (plan.accumulate, plan.omit), name
        assert plan.recompute == (False,) * 4
        assert asyncsim.plan(run).summary["adaptation_rate"] == pytest.approx(plan.rate, rel=0.02)


def test_useful_numbers_of_gradients():
    """Every step keeps exactly one version less, and none between does: against a search."""
    for lag in range(1, 30):
        now = 1
        while now < lag:
            then = planning.useful(lag, now)
            versions = [math.ceil(lag / count) for count in range(now, then + 1)]
            assert set(versions[:-1]) == {versions[0]}
            assert versions[-1] < versions[0]
            now = then


def test_cuts_are_those_of_limits():
    """At most (L^2 + L) / 2, from one layer a stage to all in one; no stage could take the first layer of the next."""
    cuts = planning.splits(layers(1, 2, 3, 4, 5))
    assert cuts == [(1, 1, 1, 1, 1), (2, 2, 1), (3, 2), (4, 1), (5,)]
    uneven = [planning.Layer(time, 0.0, 1, 1, 1) for time in (5, 1, 1, 4)]
    assert planning.splits(uneven) == [(1, 2, 1), (2, 2), (3, 1), (4,)]
