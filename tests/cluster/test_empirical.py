"""The bootstrap from a CSV column: what is read, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from asyncsim.cluster import Empirical
from asyncsim.registries import delays


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(content: str | bytes) -> None:
        (tmp_path / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def test_draws_are_the_values_of_the_column(write):
    write("\ufeffms,seconds\n1,1\n\n2,2\n3,3\n")
    delay = Empirical(file="t.csv", scale=0.5)
    assert delay.expected == 1.0
    assert set(delay.sample(np.random.default_rng(0), 100)) == {0.5, 1.0, 1.5}
    assert delay.settings()["file"] == str(Path("t.csv").resolve())
    assert not delay.seconds.flags.writeable
    fresh = Empirical(file="t.csv", scale=0.5)
    assert (fresh, hash(fresh), fresh.settings()) == (delay, hash(delay), delay.settings())


def test_relative_paths_start_at_the_scenario(write, tmp_path):
    (tmp_path / "scenario").mkdir()
    (tmp_path / "scenario" / "own.csv").write_text("seconds\n7\n")
    assert Empirical.model_validate({"file": "own.csv"}, context={"folder": tmp_path / "scenario"}).expected == 7
    with pytest.raises(ValidationError, match=r"own\.csv"):
        Empirical(file="own.csv")


def test_a_changed_file_is_another_delay(write):
    write("seconds\n1\n")
    before = Empirical(file="t.csv")
    write("seconds\n2\n")
    assert Empirical(file="t.csv") != before
    with pytest.raises(ValidationError, match=r"t\.csv has changed"):
        delays.parse(before.settings())


@pytest.mark.parametrize(
    ("content", "field", "words"),
    [
        ("", "column", ["no column 'seconds'", "none"]),
        ("second\n1\n", "column", ["did you mean `second`", "its columns: second"]),
        ("seconds\n", "file", ["holds no rows"]),
        ("seconds\n1\n-2\n", "file", ["line 3", "'-2'", "from 0"]),
        ("seconds\n1\n2\nnan\n", "file", ["line 4", "'nan'"]),
        ("seconds\ninf\n", "file", ["line 2", "'inf'"]),
        ("seconds\nsoon\n", "file", ["line 2", "'soon'"]),
        ("seconds\n1e300\n", "file", ["line 2", "9e+09"]),
        ("a,seconds\n1,2\n3\n", "file", ["line 3", "1 values for 2 columns"]),
        (b"seconds\n\xff\xfe\n", "file", ["is not UTF-8 text", "UTF-8"]),
    ],
)
def test_wrong_files(write, content, field, words):
    write(content)
    with pytest.raises(ValidationError) as caught:
        Empirical(file="t.csv")
    (problem,) = caught.value.errors()
    assert problem["loc"] == (field,)
    assert "t.csv" in problem["msg"]
    for word in words:
        assert word in problem["msg"]


UNREADABLE = [("absent.csv", "there is no such file"), (".", "cannot be read: the folder holds no finished run")]


@pytest.mark.parametrize(("file", "words"), UNREADABLE)
def test_a_file_that_cannot_be_read(write, file, words):
    with pytest.raises(ValidationError, match=words):
        Empirical(file=file)
