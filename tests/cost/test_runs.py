"""Prices in runs, plans, sweeps, figures and files."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import asyncsim
from asyncsim.cluster import Cluster, Phone
from asyncsim.errors import UserError
from asyncsim.plots import convergence, cost_to_target, energy_to_target
from asyncsim.records import load_result
from asyncsim.registries import instances
from asyncsim.registry import json_schema
from asyncsim.scenario import Document, Scenario, expand
from asyncsim.sweep import comparison, simulate_many
from asyncsim.units import show_dollars, show_joules

MACHINE = {"price": 3.6, "idle": 10, "busy": 110}


@pytest.mark.parametrize("method", ["asgd", {"kind": "ssp", "bound": 1}, {"kind": "softsync", "n": 2}])
def test_a_plan_costs_what_the_run_costs(make, method):
    faults = {"up": {"kind": "exponential", "mean": 9.0}, "down": "2s"}
    fleet = {"workers": 4, "compute": {"kind": "exponential", "mean": 1.0}, "faults": faults}
    scenario = make(fleet, {"updates": 60}, method=method)
    plan, run = asyncsim.plan(scenario), asyncsim.simulate(scenario)
    told = [key for key in run.summary if key.startswith(("cost", "energy", "bytes"))]
    assert len(told) == 11
    assert {key: plan.summary[key] for key in told} == {key: run.summary[key] for key in told}
    assert plan.metrics[["time", "cost", "energy"]].equals(run.metrics[["time", "cost", "energy"]])
    assert run.summary["cost_per_1000_updates"] == pytest.approx(run.summary["cost"] * 1000 / 60)


def test_prices_change_neither_timeline_nor_parameters(make):
    cluster = {"workers": 3, "uplink": "0.2s", "server": {"service": "50ms"}}
    priced, free = (asyncsim.simulate(make(cluster | {"instance": each}, {"updates": 40})) for each in (MACHINE, None))
    assert priced.fingerprints["timeline"] == free.fingerprints["timeline"]
    assert (priced.parameters == free.parameters).all()
    assert not [key for key in free.summary if key.startswith(("cost", "energy", "bytes"))]
    assert "cost" not in free.metrics


def test_to_target_is_what_was_spent_at_that_evaluation(make):
    target = {"metric": "test_loss", "at_most": 0.01, "stop": False}
    run = {"updates": 200, "target": target}
    result = asyncsim.simulate(make({}, run, optimizer={"kind": "sgd", "lr": 0.05}, evaluate={"updates": 1}))
    seconds = result.time_to("test_loss", at_most=0.01)
    assert 0 < seconds == result.summary["time_to_target"] < 200
    assert result.summary["cost_to_target"] == pytest.approx(0.001 * seconds)
    assert result.summary["energy_to_target"] == pytest.approx(110 * seconds)
    never = asyncsim.simulate(make({}, {"updates": 5, "target": target | {"at_most": 1e-9}}))
    assert (never.summary["cost_to_target"], never.summary["energy_to_target"]) == (None, None)


def test_a_resumed_run_has_the_bill_of_a_whole_one(make, tmp_path):
    from asyncsim.resuming import extend

    fleet = {"workers": 3, "compute": {"kind": "exponential", "mean": 1.0}, "faults": {"up": "7s", "down": "2s"}}
    half, whole = ({"updates": count} for count in (30, 60))
    checkpoint, evaluate = {"end": True}, {"updates": 10}
    short = make(fleet, half, checkpoint=checkpoint, evaluate=evaluate)
    asyncsim.simulate(short, tmp_path / "runs" / f"{short.name}-{short.hash}")
    longer = make(fleet, whole, checkpoint=checkpoint, evaluate=evaluate)
    folder = extend(longer, tmp_path / "runs")
    assert folder
    resumed = load_result(tmp_path / "runs" / f"{longer.name}-{longer.hash}")
    alone = asyncsim.simulate(longer)
    assert resumed.fingerprints == alone.fingerprints
    assert resumed.summary["cost"] == alone.summary["cost"]
    assert list(resumed.metrics["energy"]) == list(alone.metrics["energy"])


def test_presets_in_one_line():
    for name, cls in instances:
        if name != "custom" and not issubclass(cls, Phone):
            preset = Cluster.model_validate({"instance": name}).instance
            assert 0 < preset.idle < preset.busy
            assert preset.price > 0
            assert cls.__doc__.startswith("AWS")
    spot = Cluster.model_validate({"instance": {"kind": "aws_p3_2xlarge", "spot": 0.4}}).instance
    assert (spot.price, spot.rate) == (3.06, pytest.approx(1.224))


@pytest.mark.parametrize(("written", "price"), [(0.5, 0.5), ("0.5/h", 0.5), ("12/d", 0.5), ("0.5 $/h", 0.5), ("1e-3/s", 3.6)])
def test_prices_with_units(written, price):
    assert Cluster.model_validate({"instance": written}).instance.price == pytest.approx(price)


@pytest.mark.parametrize(("field", "value", "message"), [
    ("price", "3 Euro", "not a price"), ("price", -1, "at least 0"), ("idle", "3V", "not a power"),
    ("egress", "1/h", "not a price"), ("spot", 0, "above 0"), ("spot", 1.5, "at most 1"), ("cost", 1, "unknown field"),
])  # fmt: skip
def test_bad_prices_are_named(make, field, value, message):
    with pytest.raises(UserError, match=rf"test: cluster\.instance\.{field}: .*{message}"):
        make({"instance": {**MACHINE, field: value}})


def test_the_schema_knows_instances():
    text = json.dumps(json_schema(Scenario))
    assert "aws_g4dn_xlarge" in text
    assert "dollars per hour" in text


@pytest.fixture(scope="module")
def study():
    target = {"metric": "test_loss", "at_most": 0.01, "stop": False}
    return expand(Document({
        "task": {"kind": "quadratic", "dim": 2},
        "cluster": {"compute": {"kind": "gamma", "mean": 1, "cv": 0.3}, "instance": MACHINE},
        "optimizer": {"kind": "sgd", "lr": 0.05}, "run": {"samples": 200, "target": target},
        "sweep": {"grid": {"cluster.workers": [1, 2]}, "seeds": 2},
    }, "test"), {}, None, "s")  # fmt: skip


@pytest.fixture(scope="module")
def results(study):
    return simulate_many(study.scenarios)


def test_tables_of_a_sweep(study, results):
    frame = comparison(study, results)
    for at, pair in enumerate((results[:2], results[2:])):
        row = frame.iloc[at]
        costs = [result.summary["cost_to_target"] for result in pair]
        assert row["cost_to_target"] == row["expected_cost_to_target"] == pytest.approx(sum(costs) / 2)
        assert (row["cost_to_target_low"], row["cost_to_target_high"]) == (min(costs), max(costs))
        assert row["energy"] == pytest.approx(sum(result.summary["energy"] for result in pair) / 2)
    never = replace(results[1], summary=results[1].summary | {"cost_to_target": None, "time_to_target": None})
    broke = [results[0], never, *results[2:]]
    paid = results[0].summary["cost_to_target"] + results[1].summary["cost"]
    assert comparison(study, broke).iloc[0]["expected_cost_to_target"] == pytest.approx(paid)


def test_figures_against_dollars_and_joules(results):
    ax = convergence(results, against="dollars", labels="workers")
    assert ax.get_xlabel() == "cost (dollars)"
    assert max(ax.lines[0].get_xdata()) == pytest.approx(min(each.summary["cost"] for each in results[:2]))
    assert "energy (J)" in convergence(results, against="joules").get_xlabel()
    for draw, column, word in ((cost_to_target, "cost", "dollars"), (energy_to_target, "energy", "joules")):
        ax = draw(results)
        assert ax.get_ylabel().startswith(word)
        mean = sum(each.summary[f"{column}_to_target"] for each in results[:2]) / 2
        assert ax.lines[0].get_ydata()[0] == pytest.approx(mean)
        assert draw(results, metric="test_loss", level=0.01).lines[0].get_ydata()[0] == pytest.approx(mean)


def test_runs_without_prices_cannot_be_drawn_against_them(make):
    free = asyncsim.simulate(make({"instance": None}, {"updates": 20}))
    with pytest.raises(UserError, match=r"has no cost; prices in the scenario"):
        convergence(free, against="dollars")


def test_amounts_for_people():
    assert [show_dollars(each) for each in (0, 0.00421, 12.3, 1234.5)] == ["$0.00", "$0.00421", "$12.30", "$1,234"]
    assert [show_joules(each) for each in (5, 3400, 9e6)] == ["5 J", "3.4 kJ", "2.5 kWh"]
