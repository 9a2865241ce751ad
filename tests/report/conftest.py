"""A folder of real runs: two methods, two worker counts, two seeds; one that diverged; and what is no run."""

from __future__ import annotations

import json
import shutil

import pytest

import asyncsim

EVIL = "<script>alert('x')</script>&\"'"


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "study"
    base = asyncsim.Scenario.model_validate(
        {"name": "small", "task": {"kind": "digits", "model": "softmax"}, "run": {"updates": 40}, "evaluate": {"updates": 10},
         "cluster": {"instance": "aws_c5_xlarge"}}
    )  # fmt: skip
    for method in ("asgd", "gap_aware"):
        for workers in (2, 4):
            for seed in (0, 1):
                scenario = base.evolve({"method": method, "cluster.workers": workers, "seed": seed})
                asyncsim.simulate(scenario, folder / f"{method}-N{workers}-s{seed}")
    wild = base.evolve({"task": "quadratic", "optimizer.lr": 1e30, "cluster.workers": 2, "name": "wild"})
    asyncsim.simulate(wild, folder / "wild")
    return folder


@pytest.fixture
def messy(study, tmp_path):
    """The study with broken neighbours: unreadable manifests, a killed run, hidden remains, other files."""
    folder = tmp_path / "messy"
    shutil.copytree(study, folder)
    for name, content in {"a": b"", "b": b"{}", "c": b"\xff", "d": b"[1]", "e": json.dumps({"format": 1}).encode()}.items():
        (folder / f"broken_{name}").mkdir()
        (folder / f"broken_{name}" / "manifest.json").write_bytes(content)
    (folder / ".asgd-N2-s0.old").mkdir()
    (folder / ".asgd-N2-s0.old" / "manifest.json").write_text("{}")
    (folder / "notes.txt").write_text("x")
    (folder / "empty").mkdir()
    killed = folder / "gap_aware-N4-s1"
    for name in ("summary.json", "updates.parquet", "events.parquet"):
        (killed / name).unlink()
    _edit(killed, status="running")
    _edit(folder / "asgd-N2-s1", name=EVIL)
    (folder / "asgd-N2-s0" / "scenario.yaml").write_text(f"name: {EVIL} # http://example.org/x\n")
    return folder


def _edit(run, **changes):
    manifest = json.loads((run / "manifest.json").read_text()) | changes
    (run / "manifest.json").write_text(json.dumps(manifest))
