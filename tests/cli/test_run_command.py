"""``asyncsim run``: what it prints, what it writes, what it reuses."""

from __future__ import annotations

import csv
import json

import pytest

from asyncsim import load_result
from asyncsim.cli import main

ONE = "task: {kind: quadratic, noise: 0.1}\ncluster: {workers: 3}\noptimizer: {kind: sgd, lr: 0.1}\nrun: {updates: 40}\n"
MANY = ONE + "seeds: 2\nvariants: {asgd: {method: asgd}, sync: {method: bsp}}\nbaseline: sync\n"
FILES = {
    "manifest.json",
    "scenario.yaml",
    "summary.json",
    "parameters.npy",
    "metrics.parquet",
    "updates.parquet",
    "events.parquet",
}


@pytest.fixture
def cli(cli):
    (cli.folder / "one.yaml").write_text(ONE)
    (cli.folder / "many.yaml").write_text(MANY)
    return cli


def runs(folder):
    return sorted(path.parent for path in folder.rglob("manifest.json"))


def test_one_run(cli):
    code, out, _ = cli("run", "one.yaml")
    assert code == 0
    (run,) = runs(cli.folder / "runs")
    result = load_result(run)
    assert run.name == f"one-{result.manifest['hash']}"
    assert {path.name for path in run.iterdir() if path.suffix not in (".png", ".pdf")} == FILES
    assert [path for path in run.iterdir() if path.suffix in (".png", ".pdf", ".svg")]
    assert {path.name for path in (cli.folder / "runs").iterdir()} <= {run.name, f".{run.name}.lock"}
    for word in ("test loss", "updates", "40", "fingerprint, timeline", result.fingerprints["trajectory"], str(run.name)):
        assert word in out


def test_json_is_one_object_and_all_that_stdout_has(cli):
    code, out, err = cli("run", "one.yaml", "--json", "--no-figures")
    summary = json.loads(out)
    assert code == 0
    assert out.count("\n") == 1
    assert "run: " in err
    assert summary == load_result(runs(cli.folder)[0]).summary
    code, out, _ = cli("run", "many.yaml", "--json", "--no-figures", "--processes", "1")
    study = json.loads(out)
    assert (study["study"], [run["variant"] for run in study["runs"]]) == ("many", ["asgd", "asgd", "sync", "sync"])


def test_no_figures(cli):
    assert cli("run", "one.yaml", "--no-figures")[0] == 0
    assert {path.name for path in runs(cli.folder)[0].iterdir()} == FILES


def test_set_seed_and_out(cli):
    code, out, _ = cli("run", "one.yaml", "--out", "a/b", "--seed", "7", "--set", "cluster.workers=2", "--json", "--no-figures")
    assert code == 0
    assert [json.loads(out)[key] for key in ("seed", "workers")] == [7, 2]
    assert runs(cli.folder)[0].parent == cli.folder / "a" / "b"


def test_a_finished_run_is_reused_unless_forced(cli):
    assert cli("run", "one.yaml", "--no-figures")[0] == 0
    (run,) = runs(cli.folder)
    written = (run / "manifest.json").stat().st_mtime_ns
    code, out, err = cli("run", "one.yaml", "--no-figures")
    assert (code, (run / "manifest.json").stat().st_mtime_ns) == (0, written)
    assert "reused" in out + err
    before = load_result(run)
    assert cli("run", "one.yaml", "--no-figures", "--force")[0] == 0
    assert (run / "manifest.json").stat().st_mtime_ns > written
    assert load_result(run).fingerprints == before.fingerprints
    assert cli("run", "one.yaml", "--no-figures", "--set", "optimizer.lr=0.2")[0] == 0
    assert len(runs(cli.folder)) == 2


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_that_did_not_finish_is_run_again(cli, status):
    cli("run", "one.yaml", "--no-figures")
    (run,) = runs(cli.folder)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"status": status, "fingerprints": {}}))
    _, out, err = cli("run", "one.yaml", "--no-figures")
    assert "reused" not in out + err
    assert json.loads((run / "manifest.json").read_text()) == manifest


def test_a_run_of_another_version_is_run_again(cli):
    cli("run", "one.yaml", "--no-figures")
    (run,) = runs(cli.folder)
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | {"versions": {**manifest["versions"], "torch": "0.1"}}))
    cli("run", "one.yaml", "--no-figures")
    assert json.loads((run / "manifest.json").read_text()) == manifest


def test_a_study_on_one_process_and_on_two(cli):
    """Variants x seeds: a folder each, a table, figures; the bits do not depend on the number of processes."""
    code, out, _ = cli("run", "many.yaml", "--processes", "1", "--out", "one")
    assert code == 0
    study = cli.folder / "one" / "many"
    names = [path.name.rsplit("-", 1)[0] for path in runs(study)]
    assert names == ["asgd-s0", "asgd-s1", "sync-s0", "sync-s1"]
    rows = list(csv.DictReader((study / "table.csv").open()))
    assert [(row["variant"], row["runs"]) for row in rows] == [("asgd", "2"), ("sync", "2")]
    assert [path for path in study.iterdir() if path.suffix == ".png"]
    assert "asgd" in out
    assert cli("run", "many.yaml", "--processes", "2", "--out", "two", "--no-figures")[0] == 0
    prints = [[load_result(path).fingerprints for path in runs(cli.folder / out)] for out in ("one", "two")]
    assert prints[0] == prints[1]
    assert len({fingerprint["trajectory"] for fingerprint in prints[0]}) == 4


def test_diverged_runs_are_results(cli):
    (cli.folder / "wild.yaml").write_text(ONE.replace("lr: 0.1", "lr: 5") + "seeds: 2\n")
    code, out, _ = cli("run", "wild.yaml", "--set", "run.updates=3000", "--processes", "1")
    assert code == 0
    assert "diverged" in out
    assert {load_result(path).summary["status"] for path in runs(cli.folder)} == {"diverged"}
    assert not [path for path in cli.folder.rglob("*.json") if "NaN" in path.read_text()]


def test_a_run_that_fails_leaves_the_others(cli):
    (cli.folder / "some.yaml").write_text(
        "task: {kind: digits, model: softmax}\ncluster: {workers: 2}\nrun: {updates: 4}\nevaluate: {updates: 4}\n"
        "variants: {good: {seed: 1}, bad: {task: {batch: 5000}}, fine: {seed: 2}}\n"
    )
    code, out, err = cli("run", "some.yaml", "--processes", "1", "--no-figures")
    assert code == 1
    assert err.count("bad, seed 0: failed: task.batch: 5000 samples are more than") == 1
    assert "good" in out
    assert len(runs(cli.folder)) == 2
    assert [row["variant"] for row in csv.DictReader((cli.folder / "runs/some/table.csv").open())] == ["good", "fine"]


@pytest.mark.parametrize("words", [("--processes", "0"), ("--processes", "x"), ("--seed", "x"), ("--nonsense",)])
def test_bad_options(cli, words, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["run", "one.yaml", *words])
    assert caught.value.code == 2
    assert words[0] in capsys.readouterr().err
    assert runs(cli.folder) == []


def test_a_number_too_large_for_the_precision_is_one_line(tmp_path, capsys):
    """Found in a notebook: a rate that no float32 can hold ended a run in a traceback of PyTorch's. float64 can."""
    file = tmp_path / "s.yaml"
    file.write_text("task: {kind: digits, model: softmax}\nrun: {updates: 5}\noptimizer: {kind: sgd, lr: 1.0e39}\n")
    out = ["--out", str(tmp_path / "runs"), "--no-figures"]
    assert main(["run", str(file), *out]) == 2
    error = capsys.readouterr().err
    assert "dtype: a number among the settings of optimizer, schedule or method is larger than float32 can hold" in error
    assert "Traceback" not in error
    assert main(["run", str(file), *out, "--set", "dtype=float64"]) == 0
