"""The command: what it prints and writes, one clear error for a wrong file, measuring with a clock that is known."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

import asyncsim
from asyncsim.calibration import measure
from asyncsim.calibration.measuring import scenario_of
from asyncsim.errors import UserError
from asyncsim.records import directory
from asyncsim.scenario import load_scenario


@pytest.fixture
def cli(cli):
    """``calibrate`` in a folder with a trace."""
    values = np.random.default_rng(0).gamma(4, 0.1, 400).tolist()
    Path("t.csv").write_text("worker,seconds\n" + "".join(f"{i % 4},{value}\n" for i, value in enumerate(values)))
    return partial(cli, "calibrate")


def test_the_printed_snippet_can_be_pasted(cli):
    code, out, _ = cli("t.csv")
    assert code == 0
    assert "gamma (chosen)" in out
    assert "workers count as equal" in out
    Path("pasted.yaml").write_text("task: digits\nrun: {updates: 10}\n" + out[out.index("cluster:") :])
    assert load_scenario("pasted.yaml").cluster.num_workers == 4


def test_json_has_the_same_keys_for_every_trace(cli):
    """What scripts may rely on."""
    Path("one.jsonl").write_text('{"seconds": 0.5}\n')
    Path("there.csv").write_text("start,end\n0,5\n7,9\n12,20\n")
    documents = [json.loads(cli(name, "--json")[1]) for name in ("t.csv", "one.jsonl", "there.csv")]
    for document in documents:
        assert list(document) == ["format", "trace", "fits", "differences", "snippet", "yaml", "notes"]
        assert document["format"] == 1
        assert list(document["trace"]) == ["path", "sha256", "kind", "left_out", "read"]
        assert YAML(typ="safe", pure=True).load(document["yaml"]) == document["snippet"]
        for fit in document["fits"].values():
            assert list(fit) == ["n", "mean", "cv", "min", "median", "p95", "max", "chosen", "candidates"]
            for candidate in fit["candidates"]:
                assert list(candidate) == ["kind", "delay", "free", "log_likelihood", "aic", "ks", "refused"]
    assert list(documents[0]["differences"]) == [
        "heterogeneous", "p", "cv_machine", "cv_batch", "autocorrelation", "mean_of_workers", "workers"
    ]  # fmt: skip
    assert documents[1]["snippet"] == {"cluster": {"compute": {"kind": "constant", "mean": 0.5}}}
    assert any("say little" in note for note in documents[1]["notes"])
    assert documents[2]["trace"]["kind"] == "availability"
    assert list(documents[2]["fits"]) == ["up", "down"]


@pytest.mark.parametrize("form", ["png", "svg"])
def test_the_figure(cli, form):
    Path("there.csv").write_text("start,end\n0,5\n7,9\n12,20\n")
    for name in ("t.csv", "there.csv"):
        assert cli(name, "--plot", f"{name}.{form}")[0] == 0
        first = Path(f"{name}.{form}").read_bytes()
        cli(name, "--plot", f"{name}.{form}")
        assert Path(f"{name}.{form}").read_bytes() == first
    if form == "svg":
        assert "<svg" in first.decode()


WRONG = {
    "seconds\n": r"wrong\.csv: there is no whole duration of kind `compute` in it; needed is at least one",
    "": r"wrong\.csv has no column 'seconds'; its columns: none",
    "secs\n0.1\n": r"wrong\.csv has no column 'seconds'; .*did you mean|its columns: secs",
    "seconds\n0.1\nNaN\n": r"wrong\.csv, line 3, column 'seconds': 'NaN' is not a duration; allowed is a number of seconds",
    "seconds\n0.1\n-1\n": r"wrong\.csv, line 3, column 'seconds': '-1' is not a duration",
    "seconds\n0.1\ninf\n": r"wrong\.csv, line 3, column 'seconds': 'inf' is not a duration",
    "seconds\n0.1\n\n0,2\n": r"wrong\.csv, line 4: 2 values for 1 columns",
    "seconds\n0.1\nfast\n": r"wrong\.csv, line 3, column 'seconds': 'fast' is not a duration",
    "seconds\n0\n0\n": r"wrong\.csv, line 2, column 'seconds': a duration of 0 s; allowed are those above 0",
    "worker,seconds\n0,1\n1,0\n": r"wrong\.csv, line 3, column 'seconds': a duration of 0 s; allowed are those above 0",
    "worker,seconds\n0,1\n,2\n": r"wrong\.csv, line 3, column 'worker': no worker is named",
    "kind,seconds\ncompute,1\ncomputing,2\n": r"wrong\.csv, line 3, column 'kind': 'computing' is none of",
    "start,end\n0,5\n4,9\n": r"wrong\.csv, line 3: starts at 4, before the one before it has ended",
    "start,end\n5,0\n": r"wrong\.csv, line 2: ends at 0, before it starts at 5",
    "start,end\n0,5\n": r"wrong\.csv: there is no whole down time in it",
    "time,event\n0,up\n5,up\n": r"wrong\.csv, line 3: a second 'up' in a row; allowed are up and down in turn",
    "time,event\n0,up\n5,gone\n": r"wrong\.csv, line 3, column 'event': 'gone' is neither up nor down",
    "kind,worker,start_ns,end_ns\ncompute,0,0,1\n": r"wrong\.csv has no column 'step'",
    "kind,worker,step,start_ns,end_ns,complete\ncompute,0,0,5,1,true\n": r"line 2: ends at 1 ns, before it starts at 5 ns",
    "kind,worker,step,start_ns,end_ns,complete\ncompute,0,0,0,1,false\n": r"there is no whole duration of kind `compute`",
}


@pytest.mark.parametrize(("content", "message"), WRONG.items())
def test_a_wrong_file_gives_one_clear_error(cli, content, message):
    Path("wrong.csv").write_text(content)
    code, out, err = cli("wrong.csv")
    assert (code, out, err.count("\n")) == (2, "", 1)
    with pytest.raises(UserError, match=message):
        asyncsim.calibrate("wrong.csv")


@pytest.mark.parametrize(("content", "message"), {
    '{"seconds": 1}\n{"seconds": null}\n': r"line 2, column 'seconds': None is not a duration",
    '{"seconds": 1}\n\n{"seconds": true}\n': r"line 3, column 'seconds': 'True' is not a duration",
    '{"seconds": 1}\n{"second": 1}\n': r"line 2, column 'seconds': None is not a duration",
    '{"seconds": 1}\n[2]\n': r"line 2: \[2\] is not an object",
    '{"seconds": 1}\n{"seconds": \n': r"line 2: not valid JSON",
    '{"seconds": 1}\n{"seconds": NaN}\n': r"line 2, column 'seconds': nan is not a duration",
    '{"seconds": 1}\n{"seconds": [1]}\n': r"line 2, column 'seconds': \[1\] is not a duration",
}.items())  # fmt: skip
def test_wrong_json_lines(cli, content, message):
    Path("wrong.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        asyncsim.calibrate("wrong.jsonl")


@pytest.mark.parametrize(("words", "message"), {
    (): "name a trace, or a task with --measure",
    ("t.csv", "--measure", "digits"): "not both",
    ("t.csv", "--threads", "2"): "--threads is allowed only with --measure",
    ("nowhere.csv",): "nowhere.csv: there is no such file",
    (".",): "the folder holds no finished run with events",
    ("t.csv", "--column", "second"): "has no column 'second'; did you mean `seconds`",
    ("t.csv", "--worker", "host"): "has no column 'host'",
    ("t.csv", "--plot", "fit.gif"): "name a file that ends in",
    ("t.csv", "--empirical", "t.csv"): "is the trace itself",
    ("t.csv", "--empirical", "away/kept.csv"): "there is no folder away",
    ("--measure", "digit"): "did you mean `digits`",
    ("--measure", "digits", "--out", "t.csv"): "is there already",
    ("--measure", "digits", "--out", "t.txt"): "name a file that ends in .csv",
    ("--measure", "nowhere.yaml"): "there is no such file",
}.items())  # fmt: skip
def test_wrong_words(cli, words, message):
    before = sorted(Path().iterdir())
    code, out, err = cli(*words)
    assert (code, out) == (2, "")
    assert message in err
    assert sorted(Path().iterdir()) == before


def test_a_full_disk_leaves_what_was_there(cli, monkeypatch):
    """Files appear whole or not at all."""
    Path("kept.csv").write_text("before")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(directory.os, "fsync", full)
    code, _, err = cli("t.csv", "--empirical", "kept.csv")
    assert (code, Path("kept.csv").read_text()) == (2, "before")
    assert "No space left" in err
    assert sorted(path.name for path in Path().iterdir()) == ["kept.csv", "t.csv"]


def test_measured_times_are_the_clock_s():
    """A clock that ticks 3 ms between two looks; the gradients that warm up are not in the result."""
    ticks = count(step=3_000_000)
    found = measure(scenario_of("digits"), gradients=7, warm_up=2, clock=lambda: next(ticks))
    assert found.seconds.tolist() == [0.003] * 7
    assert next(ticks) == 3_000_000 * 2 * 9
    assert found.about.startswith("digits: 7 gradients of batch 32 (")
    assert "after 2 to warm up; median 3 ms; cpu, 1 thread, float32, " in found.about


def test_a_measurement_is_frozen_in_files(cli):
    Path("own.yaml").write_text("task: {kind: digits, model: softmax, batch: 8}\nrun: {updates: 5}\ncluster: {workers: 2}\n")
    code, out, _ = cli("--measure", "own.yaml", "--gradients", "30", "--warm-up", "3", "--threads", "2", "--json")
    assert code == 0
    told = json.loads(out)
    assert "30 gradients of batch 8" in told["measured"]
    assert "2 threads" in told["measured"]
    assert told["fits"]["compute"]["n"] == 30
    snippet = Path("own_seconds.yaml").read_text()
    assert snippet.startswith(f"# {told['measured']}\n")
    Path("pasted.yaml").write_text("task: digits\nrun: {updates: 10}\n" + snippet)
    compute = load_scenario("pasted.yaml").cluster.compute
    assert compute.kind == "empirical"
    assert compute.expected == pytest.approx(told["fits"]["compute"]["mean"])
    assert cli("--measure", "own.yaml")[0] == 2  # what was measured is not replaced
    with Path("own_seconds.csv").open("a") as file:
        file.write("0.1\n")
    with pytest.raises(UserError, match="has changed"):
        load_scenario("pasted.yaml")


def test_a_trace_needs_no_torch(cli):
    program = "import sys; from asyncsim.cli import main; sys.exit(main(['calibrate', 't.csv']) or 3 * ('torch' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, env=os.environ | {"COLUMNS": "140"})
    assert (done.returncode, done.stderr) == (0, b"")
