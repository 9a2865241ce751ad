"""Fair comparison: the learning rate of every method by validation, on runs of its own."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from asyncsim import UserError
from asyncsim.scenario import Document, expand
from asyncsim.scenario.tuning import FIRST_SEED
from asyncsim.sweep import load_sweep, simulate_study, simulate_sweep
from asyncsim.sweep.cost import forecast
from asyncsim.sweep.tune import trials_of

# f(x) = x^2 / 2 without noise: after t steps at rate r one worker is at (1 - r)^t, so the best of these rates is 0.8; with 8
# workers in turn (constant times) every gradient is 7 versions old and rates above 0.209 diverge, so it is 0.05 (0.1 oscillates).
DATA = {
    "task": {"kind": "quadratic", "dim": 1, "noise": 0.0},
    "cluster": {"compute": "1s"},
    "dtype": "float64",
    "optimizer": {"kind": "sgd", "lr": 0.01},
    "run": {"updates": 80, "target": {"metric": "test_loss", "at_most": 1e-3, "stop": False}},
    "sweep": {"grid": {"cluster.workers": [1, 8]}, "seeds": 2},
    "tune": {"field": "optimizer.lr", "grid": [0.002, 0.05, 0.8], "metric": "validation_loss", "seeds": 2},
}


def test_the_right_rate_for_each_point(tmp_path):
    phases = []
    study = expand(Document(DATA, "test"), {}, None, "s")
    result = simulate_sweep(study, tmp_path, phase=phases.append)
    assert list(result.choices["chosen"]) == [0.8, 0.05]
    assert list(result.choices["at_edge"]) == [True, False]
    assert [len(phase) for phase in phases] == [2 * 3 * 2, 4, 4]
    trials = phases[0].scenarios
    assert {scenario.seed for scenario in trials} == {FIRST_SEED, FIRST_SEED + 1}
    assert {scenario.evaluate.splits for scenario in trials} == {("validation",)}
    assert {scenario.run.target for scenario in trials} == {None}
    assert [scenario.optimizer.lr for scenario in result.study.scenarios] == [0.8, 0.8, 0.05, 0.05]
    one, eight = (row for _, row in result.table.iterrows())
    assert (one["optimizer.lr"], one["optimizer.lr_common"]) == (0.8, 0.01)
    assert one["test_loss"] < 1e-9 < one["test_loss_common"] == pytest.approx(0.5 * 0.99**160)
    assert (eight["reached"], eight["reached_common"]) == (2, 0)
    assert {path.name for path in (tmp_path / "s").glob("*.*") if path.is_file() and path.name[0] != "."} == {
        "table.csv", "runs.csv", "choices.csv", "sweep.json",
    }  # fmt: skip
    loaded = load_sweep(tmp_path / "s")
    pd.testing.assert_frame_equal(loaded.choices, result.choices, check_dtype=False)
    pd.testing.assert_frame_equal(loaded.table, result.table, check_dtype=False)
    again = []
    simulate_sweep(study, tmp_path, report=lambda report: again.append(report.reused))
    assert again == [True] * 20


def test_a_rate_that_diverges_is_never_chosen():
    data = {**DATA, "run": {"updates": 6000}, "tune": {"grid": [5.0, 0.02]}, "sweep": {"grid": {"cluster.workers": [8]}}}
    result = simulate_sweep(expand(Document(data, "test"), {}, None, "s"))
    assert list(result.choices["chosen"]) == [0.02]
    assert result.undecided == ()


@pytest.mark.parametrize("tune", [{"grid": [5.0, 7.0]}, {"kind": "optuna", "trials": 2, "low": 5.0, "high": 7.0}])
def test_where_every_trial_diverges_nothing_is_chosen_and_nothing_is_run(tmp_path, tune):
    """With 8 workers every rate here diverges; one worker still gets its choice, and the row of eight says that it has none."""
    if "kind" in tune:
        pytest.importorskip("optuna")
    rates = {"grid": [5.0, 1.5]} if "grid" in tune else tune
    variants = {"one": {"cluster": {"workers": 1}}, "eight": {"cluster": {"workers": 8}}}
    data = {**DATA, "run": {"updates": 6000, "target": DATA["run"]["target"]}, "tune": rates, "sweep": {"seeds": 2}}
    study = expand(Document({**data, "variants": variants}, "test"), {}, None, "s")
    result = simulate_sweep(study, tmp_path)
    decided = ["one"] if "grid" in tune else []
    assert list(result.choices["variant"][result.choices["chosen"].notna()]) == decided
    assert not result.choices["at_edge"][1]
    assert {study.variants[index] for index in result.undecided} == {"one", "eight"} - set(decided)
    assert [each is None for each in result.results] == [name not in decided for name in study.variants]
    row = result.table.set_index("variant").loc["eight"]
    assert (row["runs"], row["failed"], row["workers"], row["reached"]) == (0, 0, 8, 0)
    assert row.isna()["optimizer.lr"]
    assert row["optimizer.lr_common"] == 0.01
    assert list(result.runs["status"])[2:] == ["nothing chosen"] * 2
    written = pd.read_csv(tmp_path / "s/choices.csv")
    assert written["chosen"].isna()[1]
    loaded = load_sweep(tmp_path / "s")
    assert loaded.undecided == result.undecided
    assert [each is None for each in loaded.results] == [each is None for each in result.results]
    pd.testing.assert_frame_equal(loaded.table, result.table, check_dtype=False)


LOCAL = {"method": {"kind": "local_sgd", "local_steps": 1}, "optimizer": {"kind": "sgd", "lr": 1.0}}
OTHERS = {
    **DATA, "sweep": {"seeds": 2}, "cluster": {"workers": 8, "compute": "1s"},
    "variants": {"asgd": {"method": "asgd"}, "local": LOCAL},
    "tune": {"grid": [0.002, 0.05, 0.8], "others": {"local": {"field": "method.local_lr", "grid": [0.01, 0.9, 1.7]}}},
}  # fmt: skip


def test_another_number_matters_to_some(tmp_path):
    """Eight workers in turn want 0.05 (see above); means of eight local steps are steps of one worker, for which 0.9 is best."""
    phases = []
    study = expand(Document(OTHERS, "test"), {}, None, "s")
    result = simulate_sweep(study, tmp_path, phase=phases.append)
    trials = phases[0].scenarios
    assert [each.optimizer.lr for each in trials] == [0.002, 0.05, 0.8, 1.0, 1.0, 1.0]
    assert [each.method.local_lr for each in trials[3:]] == [0.01, 0.9, 1.7]
    assert list(result.choices["field"]) == ["optimizer.lr", "method.local_lr"]
    assert list(result.choices["chosen"]) == [0.05, 0.9]
    assert list(result.choices["common"]) == [0.01, 0.05]
    assert [each.method.local_lr for each in result.study.scenarios[2:]] == [0.9, 0.9]
    assert result.study.scenarios[3].optimizer.lr == 1.0
    assert list(result.table["chosen"]) == [0.05, 0.9]
    assert "optimizer.lr" not in result.table
    assert trials_of(study).scenarios == trials
    loaded = load_sweep(tmp_path / "s")
    assert loaded.study.tune == study.tune
    pd.testing.assert_frame_equal(loaded.table, result.table, check_dtype=False)


def test_without_runs_at_the_common_value(tmp_path):
    phases = []
    study = expand(Document({**DATA, "tune": {**DATA["tune"], "common": False}}, "test"), {}, None, "s")
    result = simulate_sweep(study, tmp_path, phase=phases.append)
    assert [len(phase) for phase in phases] == [2 * 3 * 2, 4]
    assert result.common is None
    assert list(result.table["optimizer.lr"]) == [0.8, 0.05]
    assert not [name for name in result.table if name.startswith("test_") and name.endswith("_common")]
    pd.testing.assert_frame_equal(load_sweep(tmp_path / "s").table, result.table, check_dtype=False)


@pytest.mark.parametrize(("others", "message"), [
    ({"locl": {}}, r"tune\.others\.locl: must name one of the variants: asgd, local; did you mean `local`"),
    ({"local": {"field": "method.local_rl"}}, r"tune\.others\.local\.field: .*local_rl"),
    ({"local": {"grid": [0.1, 0.2]}}, r"tune\.others\.local: tries 2 values and the others 3; as many are fair"),
    ({"local": {"grid": [0.1, 0.1, 0.2]}}, r"tune\.others\.local: `grid` lists a value twice"),
    ({"local": {"low": 1}, "asgd": {"rate": 1}}, r"tune\.others\.asgd\.rate: unknown field"),
])  # fmt: skip
def test_mistakes_in_others(others, message):
    with pytest.raises(UserError, match=message):
        expand(Document({**OTHERS, "tune": {"grid": [0.002, 0.05, 0.8], "others": others}}, "test"), {}, None, "s")


def test_a_forecast_counts_what_is_there(tmp_path):
    """Before, after the trials alone (whose choice is then known), and after everything."""
    study = expand(Document({**OTHERS, "tune": {**OTHERS["tune"], "common": False}}, "test"), {}, None, "s")
    before = forecast(study, tmp_path)
    assert (before.runs.runs, before.runs.finished, before.trials, before.tried) == (4, 0, 6, 0)
    assert before.seconds > 0
    simulate_study(trials_of(study), tmp_path)
    between = forecast(study, tmp_path)
    assert (between.runs.finished, between.tried) == (0, 6)
    simulate_sweep(study, tmp_path)
    after = forecast(study, tmp_path)
    assert (after.runs.finished, after.tried, after.seconds) == (4, 6, 0.0)


def test_optuna():
    pytest.importorskip("optuna")
    tune = {"kind": "optuna", "trials": 8, "low": 0.001, "high": 2.0, "metric": "validation_loss"}
    study = expand(Document({**DATA, "tune": tune}, "test"), {}, None, "s")
    first, second = (simulate_sweep(study).choices for _ in range(2))
    assert first.equals(second)
    assert first["chosen"][1] < 0.21 < first["chosen"][0] < 2
    nested = expand(Document({**DATA, "tune": {"grid": {**tune}}}, "test"), {}, None, "s")
    assert nested.tune.trials == 8


def test_without_optuna_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    study = expand(Document({**DATA, "tune": {"kind": "optuna", "low": 0.1, "high": 1}}, "test"), {}, None, "s")
    with pytest.raises(UserError, match=r"Optuna is not installed; it comes with `pip install asyncsim\[tune\]`"):
        simulate_sweep(study)
