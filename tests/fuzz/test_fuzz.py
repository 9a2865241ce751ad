"""A few of the fuzzer's mutants; ``python tests/fuzz/fuzz.py`` is the long form."""

from __future__ import annotations

import pytest
from checking import complaint
from fuzz import folder, made, scenario


@pytest.mark.parametrize("seeds", [range(start, start + 8) for start in (0, 8, 16)], ids=str)
def test_mutated_scenarios(seeds, tmp_path):
    """Exit code 0, or 2 with a sentence: no traceback, no hang, no control character on the terminal."""
    for seed in seeds:
        file, found = scenario(seed, tmp_path)
        assert found is None, f"scenario {seed}\n{found}\n{file.read_bytes()[:2000]!r}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return made(tmp_path_factory.mktemp("runs"))


def test_mutated_folders(runs, tmp_path):
    """The same for damaged run folders, under every command that reads them. Seeds 34, 59 and 130 once ended in tracebacks."""
    for seed in (*range(4), 34, 59, 130):
        told, found = folder(seed, runs, tmp_path)
        assert found is None, f"folder {seed}: {told}\n{found}"


def test_the_judge_sees_a_traceback(tmp_path, monkeypatch):
    """What it is to find, it finds: a command that raises, one that hangs and one that drives the terminal."""
    file = tmp_path / "good.yaml"
    file.write_text("task: digits\nrun: {updates: 3}\n")
    assert complaint(["validate", str(file)]) is None
    monkeypatch.setattr("asyncsim.cli.inspect.load_study", lambda path: 1 / 0)
    assert "ZeroDivisionError" in complaint(["validate", str(file)])
    monkeypatch.setattr("asyncsim.cli.inspect.load_study", lambda path: print("\x1b[2J") or 1 / 0)
    monkeypatch.setattr("asyncsim.cli.inspect.validate", lambda arguments: print("\x1b[2J") or 0)
    assert "prints" in complaint(["validate", str(file)])
