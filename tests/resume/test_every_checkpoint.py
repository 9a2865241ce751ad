"""Every checkpoint of a small pipeline resumes to the same end: a copy of the folder then is what a dead process leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from dying import made, same

import asyncsim
from asyncsim.checkpoint.keeper import Keeper
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.records.checkpoints import checkpoint_files
from asyncsim.registries import methods
from asyncsim.scenario import Scenario, dump_scenario

MOMENTUM = {"optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9}}
DROPOUT = {"kind": "pydoc_lm", "batch": 4,
            "model": {"kind": "transformer", "context": 8, "layers": 1, "dim": 8, "heads": 2, "dropout": 0.2}}  # fmt: skip

PIPELINES: dict[str, dict[str, Any]] = {
    "bp": {"method": "bp"},
    "gpipe": {"method": "gpipe"},
    "fdg": {"method": "fdg"},
    "fdg, current": {"method": {"kind": "fdg", "backward_weights": "current"}},
    "adl": {"method": {"kind": "adl", "accumulate": 3}},
    "ddg": {"method": "ddg"},
    "ddg, current": {"method": {"kind": "ddg", "backward_weights": "current"}},
    "features_replay": {"method": "features_replay"},
    "pipedream": {"method": "pipedream"},
    "pipedream, vertical sync": {"method": {"kind": "pipedream", "vertical_sync": True}},
    "pipedream_2bw": {"method": "pipedream_2bw"},
    "pipemare": {"method": "pipemare"},
    "pipemare, warmed up": {"method": {"kind": "pipemare", "warmup": 5}},
    "spectrain": {"method": "spectrain", **MOMENTUM},
    "spectrain, predicting once": {"method": {"kind": "spectrain", "horizon": "1f1b"}, **MOMENTUM},
    "basis_rotation": {"method": {"kind": "basis_rotation", "refresh": 3}, "optimizer": "basis_rotation"},
    "pipeoptim": {"method": "pipeoptim", "optimizer": {"kind": "adam", "lr": 0.01}},
    "pipelined_backprop": {"method": {"kind": "pipelined_backprop", "predict": "weights"}, **MOMENTUM},
    "ftpipe": {"method": {"kind": "ftpipe", "predict": "msnag"}, **MOMENTUM},
    "ftpipe, accumulated": {
        "method": {"kind": "ftpipe", "gap_aware": "none", "predict": "aggmsnag", "step_every": 3}, **MOMENTUM},
    "nesterov_pipeline": {"method": "nesterov_pipeline", **MOMENTUM},
    "decoupled_data_parallel": {"method": "decoupled_data_parallel", "cluster": {"workers": 6}},
    "asynchronous groups, replayed": {
        "method": {"kind": "features_replay", "sharing": "asynchronous"}, "cluster": {"workers": 6}},
    "dropout, replayed": {"method": "features_replay", "task": DROPOUT},
}  # fmt: skip


def staged(name: str, **sections: Any) -> Scenario:
    """Three stages at random speeds: at a checkpoint some pass is nearly always under way."""
    chosen = PIPELINES[name] | sections
    cluster = {"workers": 3, "compute": {"kind": "exponential", "mean": "1s"}, **chosen.pop("cluster", {})}
    base = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8, 6]}, "batch": 12},
        "stages": {"count": 3, "split": "layers"}, "run": {"updates": 12}, "evaluate": {"updates": 6}, "engine": "auto",
    }  # fmt: skip
    return made(cluster=cluster, **base | {"checkpoint": {"updates": 1}} | chosen)


def check(scenario: Scenario, folder: Path, every: int) -> None:
    """Each ``every``-th checkpoint of a run resumes to the end of the run that was never interrupted."""
    run, copies, save = folder / "run", [], Keeper.save

    def saving(self: Keeper) -> None:
        save(self)
        copies.append(shutil.copytree(run, folder / f"copy{len(copies)}"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Keeper, "save", saving)
        expected = asyncsim.simulate(scenario, run)
        patch.setattr(Keeper, "save", lambda _: None)  # the resumed runs need none of their own
        assert len(copies) >= 10
        for copy in copies[::every]:
            same(asyncsim.resume(copy), expected)


@pytest.mark.parametrize("name", PIPELINES)
def test_checkpoints_of_pipelines(tmp_path, name):
    check(staged(name), tmp_path, every=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_every_checkpoint_of_longer_pipelines(tmp_path, name):
    check(staged(name, run={"updates": 60}, evaluate={"updates": 25}), tmp_path, every=1)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", PIPELINES)
def test_killed_by_signal_nine(tmp_path, name):
    """A process that dies, twice, at moments of the machine's choice; then a third one ends the run."""
    updates = 200
    scenario = staged(name, run={"updates": updates}, evaluate={"updates": 100}, checkpoint={"updates": 3})
    file = tmp_path / "killed.yaml"
    file.write_text(dump_scenario(scenario))
    run = tmp_path / f"{scenario.name}-{scenario.hash}"
    begin = [sys.executable, "-m", "asyncsim", "run", str(file), "--out", str(tmp_path), "--no-figures"]
    resume = [sys.executable, "-m", "asyncsim", "resume", str(run)]
    for command, more in ((begin, 12), (resume, 12)):
        newest = number(run)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while number(run) < newest + more and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.003)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    done = subprocess.run(resume, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    same(asyncsim.load_result(run), asyncsim.simulate(scenario))


def number(run: Path) -> int:
    """Of the newest checkpoint."""
    return max((int(path.stem) for path in checkpoint_files(run)), default=0)


def test_every_method_with_stages_is_here():
    staged_methods = {name for name, cls in methods if issubclass(cls, PipelineMethod)}
    tested = {m if isinstance(m, str) else m["kind"] for m in (each["method"] for each in PIPELINES.values())}
    assert staged_methods == tested
