"""The n-th write finds the disk full: exit code 2, a sentence, whole files only, and a run that can be begun again."""

from __future__ import annotations

import errno
import os

import pytest

from asyncsim.cli import main

SCENARIO = (
    "task: {kind: digits, batch: 8, model: softmax}\ncluster: {workers: 2}\n"
    "run: {updates: 6}\ncheckpoint: {updates: 3, end: true}\n"
)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
def test_the_nth_write_fails(code, tmp_path, capsys, monkeypatch):
    (tmp_path / "x.yaml").write_text(SCENARIO)
    true_fsync, count, limit = os.fsync, 0, 0

    def full(descriptor: int) -> None:
        nonlocal count
        count += 1
        if count > limit:  # and so it stays
            raise OSError(code, os.strerror(code))
        true_fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    for limit in range(40):
        count = 0
        out = tmp_path / f"out{limit}"
        command = ["run", str(tmp_path / "x.yaml"), "--out", str(out), "--no-figures"]
        if main(command) == 0:
            break
        said = capsys.readouterr().err
        assert os.strerror(code) in said
        assert "Traceback" not in said
        assert not list(out.rglob("*.tmp"))
        monkeypatch.setattr(os, "fsync", true_fsync)
        assert main(["ls", str(out)]) in (0, 2)
        assert main(command) == 0
        assert main(["show", *map(str, out.glob("*/"))]) == 0
        monkeypatch.setattr(os, "fsync", full)
        capsys.readouterr()
    assert 5 < limit < 39
