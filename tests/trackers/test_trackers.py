"""Trackers: what they are told, that they change nothing, and what happens when they fail or are not there."""

from __future__ import annotations

import json
import multiprocessing
import sys
import types

import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.errors import UserError
from asyncsim.scenario import Document, build_scenario
from asyncsim.trackers import Followers, following, make_tracker
from asyncsim.trackers.follow import VARIABLE
from asyncsim.trackers.tracker import flat, numbers


def scenario(**sections):
    base = {
        "task": {"kind": "digits", "model": "softmax", "batch": 8}, "cluster": {"workers": 4}, "run": {"updates": 600},
        "evaluate": {"updates": 50}, "method": "gap_aware",
    }  # fmt: skip
    return build_scenario(Document(base | sections, "test"))


class Notes:
    """A tracker that writes down what it is told."""

    def __init__(self):
        self.manifest = self.summary = None
        self.rows = []

    def start(self, manifest):
        self.manifest = dict(manifest)

    def log(self, metrics, time_seconds, updates):
        assert all(type(value) is float and value - value == 0 for value in metrics.values())
        self.rows.append((dict(metrics), time_seconds, updates))

    def finish(self, summary):
        assert self.summary is None
        self.summary = dict(summary)


class Broken(Notes):
    def __init__(self, where):
        super().__init__()
        self.where = where
        self.calls = 0

    def _fail(self, what):
        self.calls += what == self.where
        if what == self.where:
            raise OSError("disk full\nsecond line")

    def start(self, manifest):
        self._fail("start")

    def log(self, metrics, time_seconds, updates):
        self._fail("log")

    def finish(self, summary):
        self._fail("finish")


@pytest.mark.parametrize("engine", ["serial", "batched", "threaded"])
def test_what_a_tracker_is_told_and_that_it_changes_nothing(engine, tmp_path):
    given = scenario(engine=engine)
    notes = Notes()
    followed = asyncsim.simulate(given, tmp_path / "run", trackers=[notes])
    plain = asyncsim.simulate(given)
    assert followed.fingerprints == plain.fingerprints
    assert notes.manifest["hash"] == given.hash
    assert notes.manifest["scenario"] == given.document()
    assert notes.summary["fingerprints"] == plain.fingerprints
    metrics, updates = plain.metrics, plain.updates
    assert [(time, version) for _, time, version in notes.rows] == list(zip(metrics["time"], metrics["version"], strict=True))
    assert [row["test_accuracy"] for row, *_ in notes.rows] == metrics["test_accuracy"].tolist()
    assert set(notes.rows[0][0]) == {"samples", "lr", "test_loss", "test_accuracy"}
    second = updates[(updates["version"] > 50) & (updates["version"] <= 100)]
    for name in ("staleness", "gap", "penalty", "loss"):
        assert notes.rows[2][0][name] == pytest.approx(second[name].mean(), rel=1e-12)


def test_without_the_updates_table_the_metrics_are_told(tmp_path):
    notes = Notes()
    asyncsim.simulate(scenario(records={"updates": False}), trackers=[notes])
    assert len(notes.rows) == 13
    assert "loss" not in notes.rows[-1][0]


def test_a_diverged_run(tmp_path):
    notes = Notes()
    model = {"kind": "digits", "model": {"kind": "mlp"}, "batch": 8}
    result = asyncsim.simulate(scenario(optimizer={"kind": "sgd", "lr": 1e30}, task=model), trackers=[notes])
    assert result.summary["status"] == notes.summary["status"] == "diverged"
    assert len(notes.rows) == len(result.metrics)


@pytest.mark.parametrize("where", ["start", "log", "finish"])
def test_a_failing_tracker_is_left_out_and_the_run_goes_on(where, capsys):
    notes, broken = Notes(), Broken(where)
    result = asyncsim.simulate(scenario(), trackers=[broken, notes])
    assert result.fingerprints == asyncsim.simulate(scenario()).fingerprints
    assert broken.calls == 1
    assert len(notes.rows) == 13
    message = capsys.readouterr().err
    assert message == "asyncsim: Broken failed and is left out from here on: OSError: disk full\n"


def test_a_run_that_fails_says_so():
    notes = Notes()
    fleet = {"workers": 1, "events": [{"at": "5s", "workers": [0], "stop": True}]}
    with pytest.raises(UserError):
        asyncsim.simulate(scenario(engine="serial", cluster=fleet), trackers=[notes])
    assert notes.summary == {"status": "failed"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorbord:logs", "did you mean `tensorboard`"),
        ("nothing", "known: tensorboard, mlflow, wandb"),
        ("tensorboard", "say where it should write, such as tensorboard:logs/tensorboard"),
    ],
)
def test_names(name, words):
    with pytest.raises(UserError, match=words):
        make_tracker(name)


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_names_the_extra(kind, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, kind, None)
    with pytest.raises(UserError, match=rf"{kind} is not installed; pip install 'asyncsim\[{kind}\]'"):
        asyncsim.simulate(scenario(), tmp_path / "run", trackers=[f"{kind}:logs"])
    assert not (tmp_path / "run").exists()
    file = tmp_path / "s.json"
    file.write_text(json.dumps(scenario().document()))
    assert main(["run", str(file), "--out", str(tmp_path / "runs"), "--tracker", f"{kind}:logs"]) == 2
    assert f"asyncsim[{kind}]" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_the_command_line_reaches_every_process(tmp_path, monkeypatch):
    """Two variants on two processes: the names travel in the environment, which is as it was afterwards."""
    pytest.importorskip("tensorboard")
    monkeypatch.delenv(VARIABLE, raising=False)
    document = scenario().document() | {"variants": {"a": {"method": "asgd"}, "b": {"method": "gap_aware"}}}
    document.pop("method")
    (tmp_path / "s.json").write_text(json.dumps(document))
    logs = tmp_path / "logs"
    command = ["run", str(tmp_path / "s.json"), "--out", str(tmp_path / "runs"), "--processes", "2", "--no-figures"]
    assert main([*command, "--tracker", f"tensorboard:{logs}"]) == 0
    assert len(list(logs.glob("*/events.out.tfevents.*"))) == 2
    import os

    assert VARIABLE not in os.environ


def test_names_in_the_environment(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    made = []
    monkeypatch.setattr("asyncsim.trackers.follow.make_tracker", lambda name: made.append(name) or Notes())
    with following(["tensorboard:a", "mlflow:b"]):
        assert len(Followers(None).trackers) == 2
        assert made[-2:] == ["tensorboard:a", "mlflow:b"]
        assert Followers(()).trackers == []
    assert Followers(None).trackers == []
    with pytest.raises(UserError, match="comma"), following(["tensorboard:a,b"]):
        pass


def test_tensorboard_for_real(tmp_path):
    """Steps are updates, wall times are virtual."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = asyncsim.simulate(scenario(), trackers=[f"tensorboard:{tmp_path}"])
    (folder,) = tmp_path.iterdir()
    events = EventAccumulator(str(folder)).Reload()
    points = events.Scalars("test_accuracy")
    assert [point.step for point in points] == result.metrics["version"].tolist()
    assert [point.wall_time for point in points] == pytest.approx(result.metrics["time"].tolist())
    assert [point.value for point in points] == pytest.approx(result.metrics["test_accuracy"].tolist())


def test_mlflow_for_real(tmp_path):
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    result = asyncsim.simulate(scenario(), trackers=[f"mlflow:{tmp_path}"])
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("asyncsim").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["method.kind"] == "gap_aware"
    points = client.get_metric_history(run.info.run_id, "test_accuracy")
    assert [point.step for point in points] == result.metrics["version"].tolist()
    assert [point.timestamp for point in points] == [round(1000 * time) for time in result.metrics["time"]]


def _run_for_mlflow(folder, seed):
    asyncsim.simulate(scenario(seed=seed, run={"updates": 20}), trackers=[f"mlflow:{folder}"])


@pytest.mark.slow
def test_mlflow_in_two_processes_that_begin_at_once(tmp_path):
    """Each of two would make the database's tables, and both would fail."""
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=_run_for_mlflow, args=(tmp_path, seed)) for seed in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(240)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    runs = client.search_runs([client.get_experiment_by_name("asyncsim").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED", "FINISHED"]


def test_wandb_for_real(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with_it = asyncsim.simulate(scenario(), trackers=[f"wandb:{tmp_path}"])
    assert with_it.fingerprints == asyncsim.simulate(scenario()).fingerprints
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    assert file.stat().st_size > 1000


def fake_wandb(said):
    class Run:
        def __init__(self):
            self.summary = {}

        def __getattr__(self, name):
            return lambda *args, **kwargs: said.append((name, args, kwargs))

    module = types.ModuleType("wandb")
    module.Settings = lambda **settings: settings
    module.init = lambda **settings: said.append(("init", (), settings)) or Run()
    return module


def test_wandb_with_a_fake(tmp_path, monkeypatch):
    said = []
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setitem(sys.modules, "wandb", fake_wandb(said))
    asyncsim.simulate(scenario(), trackers=[f"wandb:{tmp_path}"])
    assert said[0][2]["mode"] == "offline"
    logged = [arguments[0] for name, arguments, _ in said if name == "log"]
    assert [row["updates"] for row in logged] == list(range(0, 601, 50))
    assert logged[-1]["virtual_seconds"] > logged[0]["virtual_seconds"] == 0.0
    assert said[-1] == ("finish", (), {"exit_code": 0})


def test_flat_settings_and_numbers():
    assert flat({"a": {"b": 1, "c": [1, 2]}, "d": True, "e": {}}) == {"a.b": 1, "a.c": "[1, 2]", "d": True, "e": "{}"}
    assert numbers({"a": 1, "b": True, "c": None, "d": float("nan"), "e": "x", "f": 0.5}) == {"a": 1.0, "f": 0.5}
