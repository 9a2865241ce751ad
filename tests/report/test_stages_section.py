"""A page and the commands tell of the stages of runs whose model is cut, and only of those."""

from __future__ import annotations

import asyncsim
from asyncsim.cli import main
from asyncsim.report import write_report


def test_stages_in_the_page_and_the_commands(tmp_path, capsys):
    base = asyncsim.Scenario.model_validate({
        "name": "cut", "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8, 8]}}, "run": {"updates": 12},
        "stages": 3, "cluster": {"workers": 6}, "method": "fdg",
    })  # fmt: skip
    asyncsim.simulate(base, tmp_path / "cut")
    page = write_report(tmp_path).read_text()
    assert "<h2>Stages</h2>" in page
    assert "Staleness of the pushes, by stage" in page
    assert "Which stage forwards and backwards which batch when" in page

    assert main(["show", str(tmp_path / "cut")]) == 0
    shown = capsys.readouterr().out
    assert "6: 2 groups of 3 stages" in shown
    assert "versions" in shown
    for words in (["--kind", "schedule", "--batches", "4"], ["--kind", "staleness", "--by", "stage"]):
        assert main(["plot", str(tmp_path / "cut"), *words, "--out", str(tmp_path / "a.png")]) == 0

    asyncsim.simulate(base.evolve({"stages": 1}, method="asgd"), tmp_path / "whole" / "run")
    assert "<h2>Stages</h2>" not in write_report(tmp_path / "whole").read_text()
