"""``plot``, ``compare``, ``ls`` and ``report`` from the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest

import asyncsim
from asyncsim.plots import KINDS
from asyncsim.plots.runs import read_run
from asyncsim.report import compare_runs


@pytest.fixture
def cli(cli, monkeypatch):
    cli.folder /= "here"  # tests put runs beside it
    cli.folder.mkdir()
    monkeypatch.chdir(cli.folder)
    return cli


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot(cli, study, kind, suffix):
    level = ["--metric", "test_accuracy", "--level", "0.5"] if kind.endswith("_to_target") else []
    more = {"heat_map": ["--y", "method"]}.get(kind, level)
    runs = [run for run in study.glob("[!.]*") if run.name != "wild"]
    code, out, err = cli("plot", *runs, "--kind", kind.replace("_", "-"), "--out", f"f.{suffix}", *more)
    assert (code, out) == (0, f"figure: f.{suffix}\n")
    assert ("gantt" in err) if kind == "schedule" else not err  # a schedule of models that are not cut points to the other kind
    assert (cli.folder / f"f.{suffix}").stat().st_size > 3000


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kind", "gannt"], "kind: 'gannt' is unknown; did you mean `gantt`"),
        (["--out", "a.jpg"], "a.jpg: name a file that ends in .png, .pdf, .svg"),
        (["--out", "no/a.png"], "there is no folder no"),
        (["--metric", "test_los"], "no metric 'test_los'; did you mean `test_loss`"),
        (["--kind", "gantt", "--metric", "x"], "kind gantt: takes no metric"),
        (["--label", "optimizer.rate"], "no run has the field 'optimizer.rate'"),
        (["--width", "99"], "--width 99: must be from 1 to 40 inches"),
    ],
)
def test_plot_says_what_is_wrong(cli, study, words, message):
    code, out, err = cli("plot", study / "asgd-N2-s0", *words)
    assert (code, out) == (2, "")
    assert err.startswith("asyncsim: ")
    assert message in err
    assert list(cli.folder.iterdir()) == []


def test_no_runs(cli, tmp_path):
    (tmp_path / "empty").mkdir()
    for command in (["plot"], ["ls"], ["report"]):
        assert cli(*command, tmp_path / "empty")[0] == 2
        code, _, err = cli(*command, tmp_path / "nowhere")
        assert code == 2
        assert "there is no such folder" in err
    assert "no run in it" in cli("ls", tmp_path / "empty")[2]


# compare


def test_compare_finds_the_field_and_the_first_event(cli, study):
    """Two seeds: the worker that ends its first computation first, in either run, is where they part."""
    runs = [read_run(study / f"asgd-N2-s{seed}", ("events", "updates")) for seed in (0, 1)]
    found = compare_runs(runs)
    assert found["scenario"] == {"seed": [0, 1]}
    (timeline,) = found["timelines"]
    first = [run.events[run.events["kind"] == "compute"].sort_values("end_ns").iloc[0] for run in runs]
    earliest = min(first, key=lambda event: event["end_ns"])
    assert timeline["time"] == earliest["end_ns"] / 1e9
    assert timeline["worker"] == earliest["worker"]
    assert [span["kind"] for span in timeline["spans"]] == ["compute", "compute"]
    code, out, _ = cli("compare", study / "asgd-N2-s0", study / "asgd-N2-s1", "--json")
    assert code == 0
    assert json.loads(out)["timelines"] == found["timelines"]
    out = cli("compare", study / "asgd-N2-s0", study / "asgd-N2-s1")[1]
    assert f"worker {timeline['worker']}" in out
    assert "seed" in out


def test_compare_finds_a_changed_event_in_the_middle(study):
    """One span of worker 1 ends a nanosecond later: that is the place, whatever the order of the table."""
    one, other = (read_run(study / "asgd-N4-s0", ("events", "updates")) for _ in range(2))
    other.manifest["fingerprints"] = {"timeline": "x", "trajectory": "y"}
    events = other.tables["events"]
    events["end_ns"] = events["end_ns"].copy()
    place = int(np.flatnonzero(events["worker"] == 1)[5])
    events["end_ns"][place] += 1
    (found,) = compare_runs([one, other])["timelines"]
    assert (found["same"], found["worker"]) == (False, 1)
    assert found["time"] == (events["end_ns"][place] - 1) / 1e9
    assert [span["step"] for span in found["spans"]] == [events["step"][place]] * 2


def test_compare_finds_the_first_push(study):
    one, other = (read_run(study / "asgd-N4-s0", ("events", "updates")) for _ in range(2))
    other.manifest["fingerprints"] = {**one.fingerprints, "trajectory": "y"}
    loss = other.tables["updates"]["loss"] = other.tables["updates"]["loss"].copy()
    loss[7] += 1e-12
    found = compare_runs([one, other])
    assert found["timelines"] == [{"same": True}]
    (push,) = found["trajectories"]
    assert (push["push"], push["column"], push["values"]) == (7, "loss", [one.updates["loss"][7], loss[7]])
    assert push["time"] == one.updates["time"][7]


def test_compare_the_same_longer_and_without_tables(cli, study):
    same = study / "asgd-N2-s0"
    out = cli("compare", same, same)[1]
    assert "scenario: the same" in out
    assert "timeline: the same" in out
    assert "trajectory: the same" in out
    one, other = (read_run(same, ("events", "updates")) for _ in range(2))
    other.manifest["fingerprints"] = {"timeline": "x"}
    for name in ("events", "updates"):
        other.tables[name] = {key: values[:-1] for key, values in other.tables[name].items()}
    (found,) = compare_runs([one, other])["timelines"]
    assert found["spans"][1] is None
    lean = read_run(same)
    lean.manifest["fingerprints"] = {"timeline": "z"}
    assert compare_runs([one, lean])["timelines"][0]["same"] is False
    assert "kept no events" in compare_runs([one, lean])["timelines"][0]["why"]


def test_compare_says_when_rounding_explains_it(cli, tmp_path):
    """One scenario on two engines, whose gradients differ in the last bits: of a method that says that it amplifies them, the
    difference is explained. Not where seeds differ, nor for a method that does not, nor where the runs are the same."""
    base = asyncsim.Scenario.model_validate(
        {"task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}}, "run": {"updates": 60}, "cluster": {"workers": 4},
         "evaluate": {"updates": 60}, "method": "gap_aware", "engine": "serial", "name": "serial"}
    )  # fmt: skip
    batched = {"engine": "batched", "name": "batched"}
    code = {"method": {"kind": "gap_aware", "step_length": "code"}}
    changes = [{}, batched, {"seed": 1}, code, code | batched, {"dtype": "float64"}]
    for place, change in enumerate(changes):
        asyncsim.simulate(base.evolve(change), tmp_path / str(place))

    def notes(*places) -> list:
        return compare_runs([read_run(tmp_path / str(place), ("events", "updates")) for place in places])["notes"]

    explained, *others, precision = notes(0, 1, 2, 3, 0, 5)
    assert "rounding" in explained
    assert "several seeds" in explained
    assert others == [None, None, None]
    assert precision == explained
    assert notes(3, 4) == [None]
    assert read_run(tmp_path / "3").fingerprints != read_run(tmp_path / "4").fingerprints
    assert f"note: {explained}" in cli("compare", tmp_path / "0", tmp_path / "1")[1]
    assert "note:" not in cli("compare", tmp_path / "0", tmp_path / "2")[1]


def test_compare_needs_two(cli, study):
    assert "two or more" in cli("compare", study / "wild")[2]
    code, _, err = cli("compare", study / "wild", study)
    assert (code, "not a run folder" in err) == (2, True)


def test_compare_three(cli, study):
    out = json.loads(cli("compare", *(study / name for name in ("asgd-N2-s0", "gap_aware-N2-s0", "wild")), "--json")[1])
    assert out["timelines"][0] == {"same": True}
    assert out["trajectories"][0]["same"] is False
    assert len(out["numbers"]["updates"]) == 3


# ls


def test_ls(cli, study):
    rows = json.loads(cli("ls", study, "--json")[1])
    assert [row["name"] for row in rows] == ["small"] * 8 + ["wild"]
    row = rows[0]
    assert (row["method"], row["workers"], row["seed"], row["status"], row["updates"]) == ("asgd", 2, 0, "finished", 40)
    assert row["metric"] == "test_error"
    assert row["value"] == pytest.approx(1 - read_run(study / "asgd-N2-s0").summary["test_accuracy"])
    assert 0 <= row["age"] < 3600
    assert (rows[-1]["status"], rows[-1]["value"]) == ("diverged", None)
    out = cli("ls", study)[1]
    assert out.count("finished") == 8
    assert "diverged" in out


def test_ls_on_garbage(cli, messy):
    code, out, err = cli("ls", messy)
    assert (code, err) == (0, "")
    assert out.count("unreadable: ") == 5
    assert "running" in out
    assert "<script>alert" in out  # a name is a name
    rows = json.loads(cli("ls", messy, "--json")[1])
    assert [row["status"] for row in rows].count("unreadable") == 5


def test_a_hundred_runs_list_and_plot_in_seconds(cli, study, tmp_path):
    source = {path.name: path.read_bytes() for path in (study / "asgd-N2-s0").iterdir() if path.is_file()}
    for index in range(100):
        folder = tmp_path / "hundred" / f"r{index}"
        folder.mkdir(parents=True)
        for name, content in source.items():
            (folder / name).write_bytes(content)
    started = time.perf_counter()
    assert len(json.loads(cli("ls", tmp_path / "hundred", "--json")[1])) == 100
    assert cli("plot", tmp_path / "hundred")[0] == 0
    assert time.perf_counter() - started < 5


def test_ls_and_compare_load_neither_torch_nor_matplotlib(study):
    program = (
        "import sys; from asyncsim.cli import main; code = main(sys.argv[1:]); "
        "sys.exit(code or ('torch' in sys.modules) * 3 or ('matplotlib' in sys.modules) * 4)"
    )
    for words in (["ls", str(study)], ["compare", str(study / "wild"), str(study / "asgd-N2-s0")]):
        done = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_report(cli, study):
    code, out, _ = cli("report", study, "--out", "r.html")
    assert (code, out) == (0, "report: r.html\n")
    assert (cli.folder / "r.html").read_text().startswith("<!doctype html>")
