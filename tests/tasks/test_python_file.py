"""A task that a user's Python file makes: the bits of the experiment, permission, processes, a sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

import asyncsim
from asyncsim.cli.main import main
from asyncsim.errors import UserError
from asyncsim.tasks import experiment, python_file
from asyncsim.userfiles import ALLOW_CODE

CODE = """
from pathlib import Path

import torch
from torch import nn

import asyncsim

Path(__file__).with_name("it_ran").touch()


def build(width=6, seed=0):
    X = torch.randn(90, 4, generator=torch.Generator().manual_seed(seed))
    model = nn.Sequential(nn.Linear(4, width), nn.Tanh(), nn.Linear(width, 2))
    return asyncsim.experiment(model, train=(X[:60], (X[:60, 0] > 0).long()), test=(X[60:], (X[60:, 0] > 0).long()), batch=12)


def number():
    return 7


def failing():
    return {}["nothing"]


def refused():
    return asyncsim.experiment(nn.Linear(2, 2), train=7, test=7)
"""
SCENARIO = """
task: {kind: python, file: mine.py, arguments: {width: 5}}
cluster: {workers: 3}
optimizer: {kind: sgd, lr: 0.1}
method: gap_aware
run: {updates: 30}
checkpoint: {updates: 10}
"""


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    """A scenario file beside the code that it names; nothing is allowed, and nothing has been made."""
    monkeypatch.delenv(ALLOW_CODE, raising=False)
    monkeypatch.setattr(python_file, "_made", {})
    monkeypatch.setattr(experiment, "_known", {})
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "s.yaml").write_text(SCENARIO)
    return tmp_path / "s.yaml"


@pytest.fixture
def allowed(monkeypatch) -> None:
    monkeypatch.setenv(ALLOW_CODE, "1")


def test_it_is_the_experiment_that_the_file_makes(file, allowed):
    """The same key and bits as with the object, and the fields of the scenario before those of the experiment."""
    scenario = asyncsim.load_scenario(file)
    assert isinstance(scenario.task, python_file.PythonTask)
    assert scenario.task.batch == 12
    own = python_file._made[next(iter(python_file._made))]
    assert own.key == scenario.task.key
    other = scenario.evolve({"task": own})
    assert asyncsim.simulate(scenario).fingerprints == asyncsim.simulate(other).fingerprints
    assert scenario.evolve({"task.batch": 6}).task.batch == 6
    assert len(python_file._made) == 1  # it is run once


def test_nothing_runs_without_permission(file, capsys, tmp_path):
    """No command runs the file unasked; with the flag it is run, and the permission ends with the command."""
    assert main(["validate", str(file)]) == 2
    assert "mine.py is code, which runs only if you allow it: --allow-code" in capsys.readouterr().err
    assert not (tmp_path / "it_ran").exists()
    assert main(["validate", str(file), "--allow-code"]) == 0
    assert (tmp_path / "it_ran").exists()
    python_file._made.clear()
    assert main(["validate", str(file)]) == 2


def test_a_run_is_resumed_by_its_folder_alone(file, allowed, tmp_path, monkeypatch):
    """What another process has: the folder. With permission the file makes the task again; without it, or with another file,
    the run is refused and left as it is."""
    scenario = asyncsim.load_scenario(file)
    asyncsim.simulate(scenario, out=tmp_path / "run")
    expected = asyncsim.simulate(scenario.evolve({"run.updates": 50})).fingerprints
    for store in (python_file._made, experiment._known):
        store.clear()
    monkeypatch.delenv(ALLOW_CODE)
    with pytest.raises(UserError, match="is code, which runs only if you allow it"):
        asyncsim.resume(tmp_path / "run", {"run.updates": 50})
    asyncsim.allow_code()
    assert asyncsim.resume(tmp_path / "run", {"run.updates": 50}).fingerprints == expected
    (tmp_path / "mine.py").write_text(CODE + "\n# changed\n")
    python_file._made.clear()
    with pytest.raises(UserError, match=r"task\.sha256: .*mine.py has changed"):
        asyncsim.resume(tmp_path / "run", {"run.updates": 60})


def test_data_that_changed_are_another_experiment(file, allowed, tmp_path):
    """A module beside the file decides the seed of the data: the key tells, where the file's own hash cannot."""
    (tmp_path / "mine.py").write_text("import beside\n" + CODE.replace("seed=0", "seed=beside.SEED"))
    (tmp_path / "beside.py").write_text("SEED = 1\n")
    scenario = asyncsim.load_scenario(file)
    python_file._made.clear()
    import beside  # type: ignore[import-not-found]  # the file has imported it

    beside.SEED = 2
    with pytest.raises(UserError, match=r"task\.key: is not that of what .*mine.py makes now"):
        scenario.evolve({"seed": 1})


@pytest.mark.slow
def test_processes_make_it_themselves(file, allowed, tmp_path):
    """Two processes of a pool, which begin with nothing, give the bits of this one."""
    scenario = asyncsim.load_scenario(file)
    here = asyncsim.run_sweep(scenario, seeds=2)
    there = asyncsim.run_sweep(scenario, seeds=2, processes=2, out=tmp_path / "out")
    assert [each.fingerprints for each in here.finished] == [each.fingerprints for each in there.finished]


@pytest.mark.parametrize(
    ("task", "code", "message"),
    [
        ("file: none.py", CODE, r"task.file: .*none.py"),
        ("file: 3", CODE, "give `file` .text."),
        ("function: build", CODE, "give `file` .text."),
        ("file: mine.py, function: biuld", CODE, "has no function 'biuld'; did you mean `build`; it has: build, number, failing"),
        ("file: mine.py, function: number", CODE, "number of .*mine.py returns a int; return what asyncsim.experiment makes"),
        ("file: mine.py, function: failing", CODE, "mine.py, line 23: KeyError: 'nothing'"),
        ("file: mine.py, function: refused", CODE, "train: must be inputs and targets"),
        ("file: mine.py, arguments: {wdth: 3}", CODE, "task.arguments: .*TypeError: build.. got an unexpected keyword"),
        ("file: mine.py, arguments: [3]", CODE, "give `file` .text."),
        ("file: mine.py", "def build(:\n", "mine.py, line 1: invalid syntax"),
        ("file: mine.py", "import nothing_of_this_name\n", "mine.py, line 1: ModuleNotFoundError"),
        ("file: mine.py", "raise SystemExit(3)\n", "mine.py, line 1: SystemExit: 3"),
        ("file: mine.py, colour: red", CODE, "unknown field"),
        ("file: mine.py, model: softmax", CODE, "an experiment has the model that it was made with"),
        ("file: mine.py, sha256: ab", CODE, "task.sha256: .*mine.py has changed"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line(file, allowed, tmp_path, capsys, task, code, message):
    (tmp_path / "mine.py").write_text(code)
    file.write_text(f"task: {{kind: python, {task}}}\nrun: {{updates: 5}}\n")
    with pytest.raises(UserError, match=message) as caught:
        asyncsim.load_scenario(file)
    assert len(str(caught.value).splitlines()) == 1
    assert str(tmp_path) not in asyncsim.tasks.python_file.sys.path
