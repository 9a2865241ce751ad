"""What is not resumed, and that the run folder stays as it was."""

from __future__ import annotations

import json
import shutil
import warnings
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
from dying import contents, kill, made, same

import asyncsim
from asyncsim import UserError
from asyncsim.cli import main
from asyncsim.needs import Need
from asyncsim.policies import State, Transform, Verdict
from asyncsim.records import RunDirectory
from asyncsim.records.checkpoints import FORMAT, checkpoint_files
from asyncsim.registries import policies
from asyncsim.run import conditions
from asyncsim.tasks.data import npz


@pytest.fixture
def run(tmp_path):
    """A run that was killed at its 40th arrival, with two checkpoints."""
    kill(made(), tmp_path / "run", 40)
    assert len(checkpoint_files(tmp_path / "run")) == 2
    return tmp_path / "run"


def truncated(path):
    path.write_bytes(path.read_bytes()[:-100])


def empty(path):
    path.write_bytes(b"")


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def foreign(path):
    np.savez(path.open("wb"), a=np.zeros(3))


def later(path):
    now = f"asyncsim checkpoint {FORMAT}".encode()
    assert path.read_bytes().startswith(now)
    path.write_bytes(path.read_bytes().replace(now, b"asyncsim checkpoint 99", 1))


def pickled(path):
    np.save(path.open("wb"), np.array([{"a": 1}], dtype=object), allow_pickle=True)


DAMAGE = [truncated, empty, flipped, foreign, later, pickled]


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_one_before_is_taken(run, damage):
    damage(checkpoint_files(run)[0])
    same(asyncsim.resume(run), asyncsim.simulate(made()))


@pytest.mark.parametrize("damage", DAMAGE)
def test_all_damaged(run, damage, capsys):
    for path in checkpoint_files(run):
        damage(path)
    refused(run, capsys, "no checkpoint of this run can be used")
    same(asyncsim.simulate(made(), run), asyncsim.simulate(made()))  # `run` begins again


def test_damaged_rows(run, capsys):
    for part in (run / "parts").glob("updates-*"):
        truncated(part)
    refused(run, capsys, "rows of its table updates are not there")


def test_later_rows_do_not_matter(run):
    """What was written after the checkpoint, whole or not, is written anew."""
    (run / "parts" / "updates-000900.parquet").write_bytes(b"half")
    (run / "parts" / ".events-000901.parquet.77.tmp").write_bytes(b"")
    same(asyncsim.resume(run), asyncsim.simulate(made()))


def refused(run: Any, capsys: Any, message: str) -> None:
    before = contents(run)
    capsys.readouterr()
    assert main(["resume", str(run)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert "Traceback" not in err
    assert contents(run) == before


def edited(run, **changes):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(manifest | changes))
    return manifest


def test_other_versions(run, capsys):
    versions = json.loads((run / "manifest.json").read_text())["versions"]
    edited(run, versions=versions | {"torch": "1.0"})
    refused(run, capsys, f"made with other versions (torch 1.0, now {versions['torch']})")


def test_a_checkpoint_of_other_versions(run, capsys, monkeypatch):
    real = conditions.versions()
    for module in (conditions, asyncsim.resuming):
        monkeypatch.setattr(module, "versions", lambda: real | {"numpy": "0.9"})
    edited(run, versions=real | {"numpy": "0.9"})
    refused(run, capsys, f"made with another versions (numpy {real['numpy']}, now 0.9)")


def test_a_checkpoint_of_another_run(run, tmp_path, capsys):
    kill(made(seed=1), tmp_path / "other", 40)
    shutil.rmtree(run / "checkpoints")
    shutil.rmtree(run / "parts")
    for part in ("checkpoints", "parts"):
        shutil.copytree(tmp_path / "other" / part, run / part)
    refused(run, capsys, "made with another scenario")


@pytest.mark.parametrize("file", ["manifest.json", "scenario.yaml"])
def test_a_changed_scenario(run, capsys, file):
    text = (run / file).read_text()
    (run / file).write_text(text.replace("0.05", "0.06"))
    refused(run, capsys, "its scenario was changed since the run began")


def test_changed_data(tmp_path, capsys):
    rng = np.random.default_rng(0)
    arrays = {"x_train": rng.normal(size=(80, 3)), "y_train": np.arange(80) % 2, "x_test": rng.normal(size=(20, 3)),
              "y_test": np.arange(20) % 2}  # fmt: skip
    file = tmp_path / "data.npz"
    np.savez(file, **arrays)
    scenario = made(task={"kind": "npz", "file": str(file), "shape": [3], "classes": 2, "batch": 4, "model": "softmax"})
    kill(scenario, tmp_path / "run", 40)
    arrays["x_train"][7, 1] += 1e-3
    np.savez(file, **arrays)
    if hasattr(npz.load, "cache_clear"):
        npz.load.cache_clear()
    refused(tmp_path / "run", capsys, "made with another data")


def test_a_timeline_that_is_not_the_recorded_one(run, capsys, monkeypatch):
    """Should a version of asyncsim simulate other times, the replay shows it."""
    monkeypatch.setattr("asyncsim.simulation.transport.links.nanoseconds", lambda seconds: round(seconds * 1e9) + 1)
    finish = asyncsim.simulation.worker.Worker.finish
    monkeypatch.setattr("asyncsim.simulation.worker.Worker.finish", lambda self, now, batches: finish(self, now, batches) + 1)
    refused(run, capsys, "the timeline that this version simulates is not the recorded one")


def test_not_a_run(tmp_path, capsys):
    tmp_path.joinpath("file").write_text("mine")
    refused(tmp_path, capsys, "not a run folder")


def test_two_at_once(run, capsys):
    directory = RunDirectory(run).lock()
    refused(run, capsys, "another process is writing this run")
    directory.close()
    same(asyncsim.resume(run), asyncsim.simulate(made()))


# States that a transform of one's own may have.


@dataclass(slots=True)
class Kept(State):
    """Whatever the test says, and a sum."""

    kept: Any
    sum: float = 0.0


class Own(Transform):
    """Keeps whatever the test says in its state, and counts on it."""

    needs: ClassVar[Need] = Need.VALUES

    def init(self, params: Any, num_workers: int) -> Kept:
        return Kept(KEPT())

    def update(self, push: Any, state: Kept, server: Any) -> Any:
        if isinstance(state.kept, dict):
            state.kept.setdefault(("worker", push.worker), []).append(float(push.gradient.norm()))
            state.sum += sum(len(each) for each in state.kept.values())
            push.penalise(1.0 + state.sum / 1e4)
        return push


KEPT: Any = dict


@pytest.fixture
def own():
    policies.register("own_state")(Own)
    yield
    del policies._classes["own_state"]


def test_a_state_of_containers(resumes, own):
    resumes(made(method={"kind": "custom", "policy": ["own_state"]}), 50)


def test_a_state_that_cannot_be_saved(own, monkeypatch, tmp_path):
    """Asked for: one error at the first checkpoint. By default: a warning, and a run without checkpoints."""
    monkeypatch.setitem(globals(), "KEPT", object)
    scenario = made(method={"kind": "custom", "policy": ["own_state"]})
    with pytest.raises(UserError, match=r"the transform `own_state`, in its state 'kept', holds a builtins.object"):
        asyncsim.simulate(scenario, tmp_path / "run")
    monkeypatch.setattr("asyncsim.checkpoint.keeper.DEFAULT", scenario.checkpoint)
    default = scenario.model_copy(update={"checkpoint": None})
    with pytest.warns(UserWarning, match="This run cannot be resumed"):
        result = asyncsim.simulate(default, tmp_path / "other")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(asyncsim.simulate(default), result)


class Moody(Transform):
    """Decides by what it sees of the gradient, not of the timeline: `plan` does not know, a replay must not ask."""

    needs: ClassVar[Need] = Need.VALUES | Need.DROPS

    def update(self, push: Any, state: State, server: Any) -> Any:
        return Verdict.DROPPED if push.payload is not None and float(push.gradient.norm()) < 2.0 else push


def test_a_policy_that_decides_by_values(resumes):
    policies.register("moody")(Moody)
    try:
        result = resumes(
            made(
                method={"kind": "custom", "policy": ["moody"]},
                cluster={"server": {"service": "50ms"}},
                run={"time": "30s"},
                checkpoint={"time": "2s"},
            ),
            40,
            75,
        )
        assert result.summary["dropped"] > 5
    finally:
        del policies._classes["moody"]
