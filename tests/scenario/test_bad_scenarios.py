"""Bad input gets one clear error (file, line, field, value, what is allowed), exit code 2, no traceback, nothing half-written."""

from __future__ import annotations

import json
import os

import pytest
from bad_scenarios import BAD, Bad

from asyncsim.cli import main

PYTHONISH = (
    "Traceback",
    "instance of",
    "dictionary",
    "tuple",
    "Input should",
    "NoneType",
    "None",
    "True",
    "__",
    "pydantic",
    "0x",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASYNCSIM_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "negative.csv").write_text("seconds\n1\n-2\n")
    (tmp_path / "folder.yaml").mkdir()
    return tmp_path


def write(case: Bad) -> None:
    if case.content is not None:
        with open(case.file, "wb") as file:  # noqa: PTH123
            file.write(case.content)


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in BAD])
def test_one_clear_error(case, folder, capsys):
    if case.id.startswith("device-cuda"):
        torch = pytest.importorskip("torch")
        if torch.cuda.is_available():
            pytest.skip("this machine has such a device")
    write(case)
    before = sorted(folder.rglob("*"))
    code = main(["run", case.file, "--out", "out", *case.arguments])
    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert sorted(folder.rglob("*")) == before
    for word in case.words:
        assert word in err
    for word in PYTHONISH:
        assert word not in err
    assert case.file in err or "override: " in err or "--set " in err
    if case.marked:
        assert f"{case.file}:{case.marked}: " in err
    lines = err.strip().splitlines()
    assert lines[0].startswith("asyncsim:")
    problems = [line for line in lines if case.file in line and line.count(": ")]
    assert len(problems) <= case.problems, "one mistake, one message"


def test_ids_are_unique_and_many():
    assert len({case.id for case in BAD}) == len(BAD) >= 80


KNOWN_AT_ONCE = [case for case in BAD if not case.arguments and not case.id.startswith(("device-cuda", "data-"))]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.id) for case in KNOWN_AT_ONCE])
def test_validate_and_plan_say_the_same(case, capsys):
    """All that can be known without loading data or a device is known to ``validate``."""
    write(case)
    said = []
    for command in ("validate", "plan"):
        assert main([command, case.file]) == 2
        said.append(capsys.readouterr())
        assert said[-1].out == ""
    assert said[0] == said[1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(folder, capsys):
    (folder / "locked.yaml").write_text("task: quadratic\nrun: {updates: 3}\n")
    (folder / "locked.yaml").chmod(0)
    assert main(["run", "locked.yaml"]) == 2
    assert "locked.yaml: cannot be read: Permission denied" in capsys.readouterr().err


def test_every_mistake_is_reported_at_once(folder, capsys):
    """... with its own line, in the order of the file's sections, and no more than twenty of them."""
    (folder / "bad.yaml").write_text(
        "task: quadratic\ncluster:\n  workers: 0\n  compute: 5 parsecs\n"
        "optimizer: {kind: sgd, lr: -1, momentum: 2}\nrun:\n  updates: no\n"
    )
    assert main(["validate", "bad.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[:2] for line in lines[1:]] == [
        ["bad.yaml:3", "cluster.workers"],
        ["bad.yaml:4", "cluster.compute"],
        ["bad.yaml:5", "optimizer.lr"],
        ["bad.yaml:5", "optimizer.momentum"],
        ["bad.yaml:7", "run.updates"],
    ]
    names = [f"wrong_{index}" for index in range(30)]
    (folder / "bad.json").write_text(json.dumps({"task": "quadratic", "run": {"updates": 1}} | dict.fromkeys(names, 1)))
    assert main(["validate", "bad.json"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "... and 10 more"


def test_one_mistake_in_many_variants_is_one_message(folder, capsys):
    (folder / "bad.yaml").write_text(
        "task: quadratic\nrun: {updates: 3}\nseed: -1\nseeds: 2\nvariants: {a: {method: asgd}, b: {method: bsp}}\n"
    )
    assert main(["validate", "bad.yaml"]) == 2
    assert capsys.readouterr().err.splitlines() == ["asyncsim: bad.yaml:3: seed: must be at least 0 (it is -1)"]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("task: {kind: quadratic, curvature: [1, -2]}", "task.curvature.1: must be at least 0 (it is -2)"),
        ("task: {kind: quadratic, curvature: x}", "task.curvature: must be a number or a list, in brackets (it is 'x')"),
        ("task: quadratic\nschedule: {kind: cosine, warmup_from: x}", "warmup_from: must be a number or '1/N' (it is 'x')"),
        ("task: {kind: quadratic, dim: 0x0}", "task.dim: must be at least 1 (it is 0)"),
        ("task: quadratic\nevaluate: {updates: ~, splits: []}", "evaluate: splits must name at least one"),
        ("task: quadratic\ncluster: {server: 3}",
         "cluster.server: must be a mapping with some of: service, faults, checkpoint, instance "
         "(it is 3)"),
        ("task: quadratic\ncluster: {compute: '1s 2'}", "cluster.compute: not a duration"),
    ],
)  # fmt: skip
def test_where_several_types_are_allowed_one_message_names_them(section, message, folder, capsys):
    (folder / "bad.yaml").write_text(f"{section}\nrun: {{updates: 3}}\n")
    assert main(["validate", "bad.yaml"]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
