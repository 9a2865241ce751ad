"""A kind of figure of one's own: one function in a package, and nothing else."""

from __future__ import annotations

import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.errors import UserError
from asyncsim.plots import KINDS, register
from asyncsim.scenario import Document, build_scenario

OWN = '''
from asyncsim.plots import register
from asyncsim.plots.style import axes

@register("pushes", "pushes of each run", options=("metric",))
def pushes(results, metric="pushes", labels=None, ax=None):
    ax = axes(ax)
    ax.bar(range(len(results)), [run.summary[metric] for run in results])
    return ax
'''


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scenario = build_scenario(Document({"task": "quadratic", "cluster": {"workers": 2}, "run": {"updates": 4}}, "test"))
    asyncsim.simulate(scenario, "run")
    yield
    KINDS.pop("pushes", None)


def test_drawn_by_its_name(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "mine.py").write_text(OWN)
    information = tmp_path / "mine-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[asyncsim.plot_kind]\npushes = mine:pushes\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert main(["plot", "run", "--kind", "pushes", "--out", "own.png"]) == 0
    assert (tmp_path / "own.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", "run", "--kind", "pushes", "--metric", "updates", "--out", "own.svg"]) == 0
    assert main(["plot", "run", "--kind", "pushes", "--x", "seed"]) == 2
    assert "kind pushes: takes no x (it takes metric)" in capsys.readouterr().err


def test_a_name_that_is_taken():
    with pytest.raises(UserError, match=r"plot kind 'gantt' is already drawn by asyncsim\.plots\.gantt\.gantt"):
        register("gantt", "another one")(lambda results, labels=None, ax=None: ax)
