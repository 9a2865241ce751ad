"""Folders of runs whose files are sound but lack a number that is only shown: the commands show what there is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.records import RunDirectory
from asyncsim.scenario import Document, build_scenario


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    task = {"kind": "quadratic", "curvature": 1.0}
    diverging = {"task": task, "run": {"updates": 200}, "optimizer": {"kind": "sgd", "lr": 1e3}, "cluster": {"workers": 2}}
    assert asyncsim.simulate(build_scenario(Document(diverging, "test")), out).summary["status"] == "diverged"
    return out


@pytest.mark.parametrize("missing", ["wall_seconds", "diverged_at_update", "diverged_at_time"])
def test_a_summary_without_a_number(run, missing, capsys):
    file = run / "summary.json"
    whole = file.read_text()
    try:
        file.write_text(json.dumps({name: value for name, value in json.loads(whole).items() if name != missing}))
        for command in (["resume", str(run)], ["show", str(run)], ["ls", str(run)], ["report", str(run)]):
            assert main(command) == 0, capsys.readouterr().err
    finally:
        file.write_text(whole)
    assert "Traceback" not in capsys.readouterr().err


def test_a_manifest_that_knows_other_versions(run, capsys):
    file = run / "manifest.json"
    whole = file.read_text()
    try:
        file.write_text(json.dumps(json.loads(whole) | {"versions": {"asyncsim": "0.1.0"}}))
        assert main(["show", str(run)]) == 0
    finally:
        file.write_text(whole)
    assert "torch unknown" in capsys.readouterr().out


def test_an_interruption_before_the_run_begins_gives_its_folder_back(tmp_path, monkeypatch):
    """Ctrl-C while the folder is made ready: the same process can run there at once."""
    scenario = build_scenario(Document({"task": {"kind": "quadratic"}, "run": {"updates": 5}}, "test"))
    begin = RunDirectory.begin
    kept = []

    def interrupted(self: RunDirectory) -> RunDirectory:
        kept.append(self)  # so that no collection of garbage gives the lock back in its place
        raise KeyboardInterrupt

    monkeypatch.setattr(RunDirectory, "begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asyncsim.simulate(scenario, tmp_path / "run")
    monkeypatch.setattr(RunDirectory, "begin", begin)
    assert asyncsim.simulate(scenario, tmp_path / "run").summary["updates"] == 5
