"""Runs that would go on for ever: refused before they begin where the means tell, given up where only crashes happen."""

from __future__ import annotations

from pathlib import Path

import pytest
from laws import check_all

import asyncsim
from asyncsim.assembling import foreseen
from asyncsim.cli.main import main
from asyncsim.errors import Deadlock, UserError
from asyncsim.resuming import lengthened
from asyncsim.scenario import load_study
from asyncsim.simulation import patience

SCENARIOS = sorted(path for path in (Path(__file__).parents[2] / "scenarios").iterdir() if path.suffix in (".yaml", ".toml"))
LIFE = {"kind": "exponential", "mean": "20s"}


# Foreseen.


@pytest.mark.parametrize("sections", [
    {"run": {"time": "200s"}},
    {"run": {"updates": 300}, "method": "bsp"},
    {"run": {"time": "100s"}, "method": {"kind": "local_sgd", "local_steps": 4}},
    {"run": {"samples": 500}, "method": {"kind": "fedbuff", "buffer": 3}},
    {"run": {"updates": 200}, "method": {"kind": "k_sync", "k": 2}},
    {"run": {"time": "200s"}, "cluster": {"server": {"service": "500ms"}}},
    {"run": {"time": "200s"}, "cluster": {"uplink": "1s", "downlink": "2s"}},
    {"run": {"time": "300s"}, "cluster": {"overrides": {0: {"compute": "10s"}}}, "method": {"kind": "ssp", "bound": 0}},
])  # fmt: skip
def test_pushes_are_foreseen(make, sections):
    """Within a tenth of those that come."""
    scenario = make(4, "1s", **sections)
    assert foreseen(scenario).pushes == pytest.approx(asyncsim.plan(scenario).summary["pushes"], rel=0.1)


@pytest.mark.parametrize("evaluate", [{"time": "3s"}, {"updates": 7}, {"samples": 20}, {}])
def test_evaluations_are_foreseen(make, evaluate):
    scenario = make(4, "1s", updates=400, evaluate=evaluate)
    assert foreseen(scenario).evaluations == pytest.approx(len(asyncsim.plan(scenario).metrics) - 1, abs=2)


@pytest.mark.parametrize("cluster", [
    {"faults": {"up": LIFE, "down": "2s"}},
    {"maintenance": [{"every": "30s", "duration": "1s"}]},
    {"zones": {"zones": 2, "gap": LIFE, "down": "2s", "whole": 1}},
])  # fmt: skip
def test_crashes_are_foreseen(make, cluster):
    """5,000 s of 4 workers: hundreds of crashes, to a fifth."""
    scenario = make(4, "1s", cluster=cluster, run={"time": 5000})
    assert foreseen(scenario).crashes == pytest.approx(asyncsim.plan(scenario).summary["crashes"], rel=0.2)


@pytest.mark.parametrize(("sections", "words"), [
    ({"compute": 1e-9, "run": {"time": "1s"}}, ("run: about 4,000,000,040 events", "pushes", "cluster.compute")),
    ({"updates": 3, "evaluate": {"time": "1ns"}}, ("evaluate: ", "evaluations", "Evaluate less often")),
    ({"cluster": {"faults": {"up": "1us", "down": 0}}, "run": {"time": "1h"}}, ("cluster: ", "crashes")),
    ({"cluster": {"maintenance": [{"every": "2us", "duration": "1us"}]}, "run": {"time": "1h"}}, ("cluster: ", "crashes")),
    ({"cluster": {"load": {"period": "24ns", "depth": 0.5}}, "run": {"time": "1h"}}, ("cluster.load: ", "changes")),
    ({"cluster": {"server": {"faults": {"up": "1h", "down": "1s"}, "checkpoint": "1ns"}}}, ("cluster.server.checkpoint: ",)),
    ({"updates": 10**15}, ("run: ", "run.most_events: 10_000_000_000_000_000")),
])  # fmt: skip
def test_too_much_is_refused(make, sections, words):
    """Before anything is done, by what makes it large, with a way out."""
    scenario = make(**sections)
    for start in (asyncsim.plan, asyncsim.simulate):
        with pytest.raises(UserError) as error:
            start(scenario)
        assert all(word in str(error.value) for word in ("100,000,000", *words))


def test_the_limit_is_the_scenarios(make, tmp_path, capsys):
    """``run.most_events`` lifts and lowers it; nothing is left of a run that was refused; a longer run is looked at as well."""
    scenario = make(2, "1s", run={"updates": 100, "most_events": 50}, evaluate={"updates": 100})
    with pytest.raises(UserError, match=r"about 101 events .* allowed are 50"):
        asyncsim.simulate(scenario, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    enough = scenario.evolve({"run.most_events": 110})
    check_all(asyncsim.plan(enough))
    with pytest.raises(UserError, match=r"about 202 events"):
        lengthened(enough, {"run.updates": 200})
    file = tmp_path / "often.yaml"
    file.write_text("task: quadratic\ncluster: {workers: 2, compute: 1s}\nevaluate: {time: 1ns}\nrun: {updates: 3}\n")
    for command in (["plan", str(file)], ["run", str(file), "--out", str(tmp_path / "runs")]):
        assert main(command) == 2
        assert "evaluations" in capsys.readouterr().err


def test_large_plans_are_allowed(make):
    foreseen(make(10_000, "1s", updates=1_000_000))
    foreseen(make(100_000, "1s", updates=1_000_000))
    foreseen(make(100_000, {"kind": "exponential", "mean": 1}, run={"time": "1min"}, cluster={"faults": "aws_r5"}))


@pytest.mark.parametrize("path", [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stem == "atlas" else ()) for path in SCENARIOS
])  # fmt: skip
def test_shipped_scenarios_are_far_from_the_limit(path):
    assert all(sum(foreseen(scenario)) < 1_000_000 for scenario in load_study(path).scenarios)


# Given up.


@pytest.mark.parametrize(("cluster", "words"), [
    ({"faults": {"up": "1s", "down": "1s"}}, ("workers 0-2: 10 s a round", "1 s between losses (`cluster.faults.up`)")),
    ({"maintenance": [{"every": "5s", "duration": "1s"}]}, ("4 s between losses (`cluster.maintenance.0.every`)",)),
    ({"zones": {"zones": 1, "gap": "3s", "down": "1s", "whole": 1}}, ("3 s between losses (`cluster.zones.gap`)",)),
    ({"outages": [{"kind": "rolling", "every": "3s", "down": "1s"}]}, ("9 s between losses (`cluster.outages.0`)",)),
    ({"overrides": {1: {"faults": {"up": "1s", "down": "1s"}}}}, ("worker 1: 10 s a round",)),
])  # fmt: skip
def test_lives_shorter_than_a_round_are_named(make, monkeypatch, cluster, words):
    """In rounds of all, one worker that never finishes is enough. Those that are not to blame are not named."""
    monkeypatch.setattr(patience, "FRUITLESS", 200)
    with pytest.raises(Deadlock) as error:
        asyncsim.plan(make(3, "10s", "bsp", updates=5, cluster=cluster))
    assert all(word in str(error.value) for word in ("201 crashes", "not one push", "lengthen the lives", *words))
    assert len(str(error.value).splitlines()) == 3


def test_crashes_between_pushes_are_no_reason_to_give_up(make, monkeypatch):
    """One worker that never finishes among others that do: its thousand crashes are not one after the other."""
    monkeypatch.setattr(patience, "FRUITLESS", 50)
    result = asyncsim.plan(make(3, "10s", updates=300, cluster={"overrides": {1: {"faults": {"up": "1s", "down": "1s"}}}}))
    assert result.summary["crashes"] > 500
