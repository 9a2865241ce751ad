"""Aggregation by hand: bootstrap, never-reached, speed-ups against a point, files."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest

from asyncsim.records import Result
from asyncsim.scenario import Document, expand
from asyncsim.sweep import comparison, runs_table
from asyncsim.sweep.bootstrap import bootstrap_interval

DATA = {
    "task": "quadratic",
    "run": {"samples": 100, "target": {"metric": "test_loss", "at_most": 0.1, "stop": False}},
    "variants": {"a": {"method": "asgd"}, "b": {"method": "bsp"}},
    "sweep": {"grid": {"cluster.workers": [1, 4]}, "seeds": 3},
    "baseline": {"cluster.workers": 1},
}


def made(workers, reached, samples, rate=1.0, loss=0.5):
    """A run of 100 samples and 40 s that reached its target after ``reached`` s and ``samples`` samples, or never."""
    summary = {
        "workers": workers, "status": "finished", "test_loss": loss, "time": 40.0, "samples": 100, "samples_per_second": rate,
        "time_to_target": reached, "staleness_max": 1, "fingerprints": {"timeline": "t"},
    }  # fmt: skip
    count = 3
    columns = {"time_ns": np.arange(count), "version": np.arange(count), "pushes": np.arange(count), "lr": np.ones(count)}
    columns |= {"samples": np.array([0, samples or 50, 100]), "test_loss": np.array([1, 0.05 if samples else 1, 0.5])}
    return Result(summary, {"name": "x"}, {"metrics": columns})


@pytest.fixture
def study():
    return expand(Document(DATA, "test"), {}, None, "s")


@pytest.fixture
def results():
    return [
        made(1, 10.0, 20), made(1, 20.0, 30), made(1, 30.0, 40),
        made(4, 5.0, 40, 4.0, 0.1), made(4, None, None, 4.0, 0.2), made(4, 10.0, 60, 4.0, 0.6),
        made(1, 10.0, 20), made(1, 10.0, 20), None,
        made(4, None, None), made(4, None, None), made(4, None, None),
    ]  # fmt: skip


def test_comparison_by_hand(study, results):
    frame = comparison(study, results)
    assert list(frame.columns[:3]) == ["variant", "cluster.workers", "workers"]
    a1, a4, b1, b4 = (row for _, row in frame.iterrows())
    assert (a4["runs"], a4["reached"], a4["time_to_target"]) == (3, 2, 7.5)
    assert a4["expected_time_to_target"] == (5 + 10 + 40) / 2  # the one that never did spent 40 s
    assert a4["speedup_to_target"] == pytest.approx(20 / 27.5)
    assert (a4["samples_to_target"], a4["expected_samples_to_target"]) == (50, (40 + 60 + 100) / 2)
    assert a4["speedup_samples_to_target"] == pytest.approx(30 / 100)
    assert (a1["speedup_to_target"], a4["speedup_samples"]) == (1, 4)
    assert (a4["test_loss"], a4["test_loss_sd"]) == (pytest.approx(0.3), pytest.approx(0.07**0.5))
    assert (a4["test_loss_low"], a4["test_loss_high"]) == (pytest.approx(0.1), pytest.approx(0.6))
    assert (b1["failed"], b1["runs"]) == (1, 2)
    assert b4["reached"] == 0
    assert all(math.isnan(b4[name]) for name in ("time_to_target", "expected_time_to_target", "speedup_to_target"))


def test_a_variant_as_baseline_is_compared_at_the_same_point(study, results):
    against = expand(Document({**DATA, "baseline": "a"}, "test"), {}, None, "s")
    frame = comparison(against, results)
    assert list(frame["speedup_to_target"])[:3] == [1, 1, 2]
    one = expand(Document({**DATA, "baseline": {"variant": "a", "cluster.workers": 1}}, "test"), {}, None, "s")
    assert list(comparison(one, results)["speedup_to_target"])[:3] == [1, pytest.approx(20 / 27.5), 2]


def test_a_baseline_among_points_that_go_together(results):
    data = {**DATA, "sweep": {"zip": {"cluster.workers": [1, 4], "optimizer.lr": [0.1, 0.4]}, "seeds": 3}}
    frame = comparison(expand(Document(data, "test"), {}, None, "s"), results)
    assert list(frame["speedup_to_target"])[:2] == [1, pytest.approx(20 / 27.5)]


def test_one_row_a_run(study, results):
    frame = runs_table(study, results)
    assert list(frame.columns[:4]) == ["variant", "cluster.workers", "seed", "status"]
    assert list(frame["seed"]) == [0, 1, 2] * 4
    assert (frame["status"][8], frame["samples_to_target"][0], frame["fingerprint_timeline"][0]) == ("failed", 20, "t")
    assert math.isnan(frame["samples_to_target"][4])


def test_bootstrap_by_hand():
    """Two values: means a, (a + b) / 2, b with probabilities 1/4, 1/2, 1/4. Three values: 1/27 of the resamples is all the
    smallest, more than 2.5 %, so the 95 % bounds are the extremes, and the 90 % bounds (27 * 0.05 = 1.35) the second means."""
    assert bootstrap_interval([1.0, 3.0]) == (1, 3)
    assert bootstrap_interval([1.0, 3.0], level=0.4) == (2, 2)
    assert bootstrap_interval([0.0, 3.0, 9.0]) == (0, 9)
    assert bootstrap_interval([0.0, 3.0, 9.0], level=0.9) == (1, 7)
    assert all(math.isnan(bound) for bound in (*bootstrap_interval([]), *bootstrap_interval([4.0])))


def test_bootstrap_of_many_is_near_the_normal_interval_and_repeats():
    values = np.random.default_rng(3).normal(size=200)
    low, high = bootstrap_interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.02), pytest.approx(values.mean() + half, abs=0.02))
    assert bootstrap_interval(values) == (low, high)


def test_files(tmp_path, monkeypatch, capsys):
    from asyncsim.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.json").write_text(json.dumps({**DATA, "run": {"samples": 50}}))
    words = ["sweep", "s.json", "--executor", "fleet", "--grid", "cluster.workers=1,2", "--seeds", "2", "--no-figures"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert "s: 2 variants x 2 points x 2 seeds = 8 runs; about 400 gradients" in err
    assert "cluster.workers = 1" in out.replace("\n", " ")
    folder = tmp_path / "runs" / "s"
    table, runs = (pd.read_csv(folder / name) for name in ("table.csv", "runs.csv"))
    assert (len(table), len(runs)) == (4, 8)
    assert list(runs["cluster.workers"]) == [1, 1, 2, 2] * 2
    assert main([*words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["table"]) == 4


def test_dry_run_runs_nothing_and_prices(tmp_path, monkeypatch, capsys):
    from asyncsim.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.json").write_text(json.dumps({**DATA, "run": {"samples": 50}, "tune": {"grid": [0.1, 0.2]}}))
    assert main(["sweep", "s.json", "--dry-run"]) == 0
    out, _ = capsys.readouterr()
    assert "2 variants x 2 points x 3 seeds = 12 runs; about 600 gradients" in out
    assert "8 trials of optimizer.lr first" in out
    assert "of wall time" in out
    assert [path.name for path in tmp_path.iterdir()] == ["s.json"]
    assert main(["sweep", "s.json", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gradients"] == 600
