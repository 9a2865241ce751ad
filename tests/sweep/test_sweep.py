"""Studies: order, isolation, and the numbers of the comparison."""

from __future__ import annotations

import math

import pytest

from asyncsim import load_study, simulate_study
from asyncsim.records import Result
from asyncsim.sweep import comparison, run_folder
from asyncsim.sweep.runner import Report

TEXT = """\
task: {kind: digits, model: softmax}
cluster: {workers: 2}
run: {updates: 4, target: {metric: test_accuracy, at_least: 0.5, stop: false}}
evaluate: {updates: 4}
seeds: 2
variants: {slow: {method: asgd}, bad: {task: {batch: 5000}}, fast: {method: bsp}}
baseline: slow
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "s.yaml").write_text(TEXT)
    return load_study(tmp_path / "s.yaml")


def made(scenario, accuracy=0.5, reached=None, rate=10.0, status="finished", stalest=3):
    """A result by hand."""
    summary = {
        "workers": 2, "status": status, "test_accuracy": accuracy, "test_loss": accuracy, "time_to_target": reached, "time": 8.0,
        "samples_per_second": rate, "staleness_mean": 1.0, "staleness_max": stalest, "penalty_mean": 1.0, "utilisation": 1.0,
        "wall_seconds": 0.5,
    }  # fmt: skip
    return Result(summary, {"name": scenario.name}, {})


def test_comparison(study):
    a, b, *bad, c, d = study.scenarios
    results = [
        made(a, 0.4, 10.0),
        made(b, 0.6, 30.0),
        *[None] * len(bad),
        made(c, 0.9, 5.0, 40.0, stalest=7),
        made(d, 0.7, 15.0, 20.0),
    ]
    frame = comparison(study, results).set_index("variant")
    assert list(frame.index) == ["slow", "fast"]  # `bad` has no run
    slow, fast = frame.loc["slow"], frame.loc["fast"]
    assert (slow["runs"], slow["reached"], slow["diverged"]) == (2, 2, 0)
    assert slow["test_accuracy"] == pytest.approx(0.5)
    assert slow["test_accuracy_sd"] == pytest.approx(0.02**0.5)  # n - 1: sqrt(0.1^2 + 0.1^2)
    assert (slow["time_to_target"], fast["time_to_target"]) == (20, 10)
    assert (slow["speedup_to_target"], fast["speedup_to_target"]) == (1, 2)
    assert (slow["speedup_samples"], fast["speedup_samples"]) == (1, 3)
    assert fast["staleness_max"] == 7


def test_seeds_that_never_reach_and_that_diverge_are_counted(study):
    a, b, *bad, c, d = study.scenarios
    results = [
        made(a, 0.4), made(b, 0.6, 30.0), *[None] * len(bad), made(c, None, status="diverged"), made(d, None, status="diverged"),
    ]  # fmt: skip
    frame = comparison(study, results).set_index("variant")
    assert (frame.loc["slow", "reached"], frame.loc["slow", "runs"], frame.loc["slow", "time_to_target"]) == (1, 2, 30)
    assert (frame.loc["fast", "reached"], frame.loc["fast", "diverged"]) == (0, 2)
    for column in ("test_accuracy", "test_accuracy_sd", "time_to_target", "speedup_to_target"):
        assert math.isnan(frame.loc["fast", column])


def test_one_seed_has_no_spread(study):
    results = [made(scenario) if scenario.seed == 0 else None for scenario in study.scenarios]
    assert comparison(study, results)["test_accuracy_sd"].isna().all()


def test_no_baseline_no_speedups_and_no_results_no_rows(tmp_path):
    (tmp_path / "s.yaml").write_text(TEXT.replace("baseline: slow", ""))
    study = load_study(tmp_path / "s.yaml")
    assert "speedup_to_target" not in comparison(study, [made(scenario) for scenario in study.scenarios])
    assert comparison(study, [None] * len(study)).empty


def test_a_baseline_that_failed(study):
    results = [made(scenario) if name == "fast" else None for scenario, name in zip(study.scenarios, study.variants, strict=True)]
    assert "speedup_to_target" not in comparison(study, results)


@pytest.mark.parametrize("processes", [1, 2])
def test_results_in_the_order_of_the_file_and_failures_by_themselves(study, tmp_path, processes):
    reports: list[Report] = []
    results = simulate_study(study, tmp_path / "out", processes, report=reports.append)
    assert [result and (result.name, result.summary["seed"]) for result in results] == [
        ("s-slow", 0), ("s-slow", 1), None, None, ("s-fast", 0), ("s-fast", 1),
    ]  # fmt: skip
    ended = {report.index: report for report in reports if report.moment is None}
    assert sorted(ended) == list(range(6))
    assert [index for index, report in sorted(ended.items()) if report.error] == [2, 3]
    assert "task.batch: 5000 samples" in ended[2].error
    for index, result in enumerate(results):
        folder = run_folder(tmp_path / "out", study, index)
        assert folder.exists() == (result is not None)
    again: list[Report] = []
    reused = simulate_study(study, tmp_path / "out", 1, report=again.append)
    assert sorted(report.index for report in again if report.reused) == [0, 1, 4, 5]
    assert [result and result.fingerprints for result in reused] == [result and result.fingerprints for result in results]


def test_without_a_folder_nothing_is_written(study, tmp_path):
    before = sorted(tmp_path.iterdir())
    results = simulate_study(study)
    assert results[0].path is None
    assert len(results[0].metrics) == 2
    assert sorted(tmp_path.iterdir()) == before


def test_folders_have_different_names(study, tmp_path):
    folders = [run_folder(tmp_path, study, index) for index in range(len(study))]
    assert len(set(folders)) == 6
    assert {folder.parent for folder in folders} == {tmp_path / "s"}
