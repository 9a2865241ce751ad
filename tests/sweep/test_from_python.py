"""Sweeps in one call: the runs of the same file, the best row, and refusals before anything runs."""

from __future__ import annotations

import json

import pytest

import asyncsim
from asyncsim.errors import UserError
from asyncsim.scenario import Document, expand
from asyncsim.sweep import simulate_sweep
from asyncsim.sweep.cost import estimate


@pytest.fixture
def scenario():
    sgd = {"kind": "sgd", "lr": 0.05}
    return asyncsim.make_scenario(task="quadratic", cluster={"workers": 2}, run={"updates": 20}, optimizer=sgd)


def test_one_call_is_the_study_of_a_file(scenario, tmp_path):
    """Grid, variants and seeds give the runs, names and table of a document with the same sections."""
    grid, variants = {"cluster.workers": [1, 4]}, {"plain": {}, "slow": {"optimizer": {"kind": "sgd", "lr": 0.001}}}
    swept = asyncsim.run_sweep(scenario, grid, variants=variants, seeds=2, baseline="plain", out=tmp_path)
    sections = {"sweep": {"grid": grid, "seeds": 2}, "variants": variants, "baseline": "plain"}
    study = expand(Document({**scenario.document(), **sections}, "file"), {}, None, "x")
    drop = ["wall_seconds"]
    assert swept.table.drop(columns=drop).equals(simulate_sweep(study).table.drop(columns=drop))
    assert len(swept.finished) == 8
    again = asyncsim.run_sweep(scenario, grid, variants=variants, seeds=2, baseline="plain", out=tmp_path)
    assert again.table.equals(swept.table)  # wall seconds too: the runs are those of before


def test_a_file_and_a_mapping_are_scenarios(scenario, tmp_path):
    """simulate, plan and run_sweep take them; what is neither, or describes several runs, is refused in a line."""
    file = tmp_path / "s.yaml"
    sections = {"task": "quadratic", "cluster": {"workers": 2}, "run": {"updates": 20}, "optimizer": {"kind": "sgd", "lr": 0.05}}
    file.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in sections.items()))
    prints = asyncsim.simulate(scenario).fingerprints
    assert asyncsim.simulate(file).fingerprints == asyncsim.simulate(str(file)).fingerprints == prints
    assert asyncsim.simulate(sections).fingerprints == prints
    assert asyncsim.plan(sections).fingerprints["timeline"] == prints["timeline"]
    assert asyncsim.run_sweep(file).finished[0].fingerprints == prints
    with pytest.raises(UserError, match="scenario: must be a scenario, a file or a mapping of sections, not a int"):
        asyncsim.simulate(3)
    with pytest.raises(UserError, match=r"scenario: run\.updates: must be at least 1"):
        asyncsim.simulate({**sections, "run": {"updates": 0}})
    file.write_text(file.read_text() + "sweep: {seeds: 2}\n")
    with pytest.raises(UserError, match="describes 2 runs"):
        asyncsim.plan(file)


def test_what_cannot_be_planned_is_estimated_too():
    """A method that decides by losses what happens in time: the estimate counts by the means of its delays."""
    base = {"task": {"kind": "digits", "model": "softmax"}, "cluster": {"workers": 4}, "run": {"updates": 40}}
    variants = {"abs": {"method": "abs", "optimizer": {"kind": "sgd", "lr": 1.0}}}
    study = expand(Document({**base, "variants": variants}, "x"), {}, None, "x")
    cost = estimate(study, measured=False)
    computed = asyncsim.simulate(study.scenarios[0]).summary["gradients_computed"]
    assert computed / 3 < cost.gradients < 3 * computed


def test_the_best_row(scenario):
    swept = asyncsim.run_sweep(scenario, {"optimizer.lr": [0.001, 0.2, 0.05]})
    assert swept.best("test_loss", largest=False)["optimizer.lr"] == 0.2
    assert swept.best("test_loss")["optimizer.lr"] == 0.001
    with pytest.raises(UserError, match="no column 'test_lost'; did you mean `test_loss`"):
        swept.best("test_lost")
    lost = asyncsim.run_sweep(scenario.evolve({"optimizer.lr": 1e30}))
    with pytest.raises(UserError, match="no run has a test_loss: all failed or diverged"):
        lost.best("test_loss")


def test_nothing_runs_before_everything_is_right(scenario):
    with pytest.raises(UserError, match=r"override: cluster\.workers: must be at least 1"):
        asyncsim.run_sweep(scenario, {"cluster.workers": [1, 0]})
    with pytest.raises(UserError, match="wrokers"):
        asyncsim.run_sweep(scenario, {"cluster.wrokers": [1, 2]})
    with pytest.raises(UserError, match="baseline"):
        asyncsim.run_sweep(scenario, variants={"a": {}}, baseline="b")
