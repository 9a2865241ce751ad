"""Sweeps in one call: the runs of the same file, the best row, and refusals before anything runs."""

from __future__ import annotations

import pytest

import asyncsim
from asyncsim.errors import UserError
from asyncsim.scenario import Document, expand
from asyncsim.sweep import simulate_sweep


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
