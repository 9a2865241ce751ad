"""What depends on the process: signals, pipes, locks, disks, and folders that are not ours."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asyncsim import load_result
from asyncsim.cli import main
from asyncsim.records import RunDirectory

SHORT = "task: {kind: quadratic}\ncluster: {workers: 3}\nrun: {updates: 30}\n"
ENDLESS = "task: {kind: quadratic}\ncluster: {workers: 3}\nrun: {updates: 50_000_000}\nevaluate: {updates: 200}\n"
ASYNCSIM = [sys.executable, "-m", "asyncsim"]
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and pipes of POSIX")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.yaml").write_text(SHORT)
    (tmp_path / "endless.yaml").write_text(ENDLESS)
    (tmp_path / "endless2.yaml").write_text(ENDLESS + "seeds: 3\n")
    return tmp_path


@pytest.fixture
def start():
    """Start a command in a process group of its own; killed at the end of the test, whatever happens."""
    processes = []

    def start(*words: str) -> subprocess.Popen:
        command = [*ASYNCSIM, *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def await_runs(folder: Path, number: int = 1) -> list[Path]:
    """Run folders, once ``number`` of them are running and have had time for some updates."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        manifests = [path for path in folder.glob("runs/**/manifest.json") if json.loads(path.read_text())["status"] == "running"]
        if len(manifests) >= number:
            time.sleep(0.3)
            return sorted(path.parent for path in manifests)
        time.sleep(0.05)
    raise AssertionError("no run started")


def test_ctrl_c(folder, start):
    process = start("run", "endless.yaml")
    (run,) = await_runs(folder)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    assert err == "asyncsim: interrupted; the same command goes on with what is saved in runs\n"
    result = load_result(run)
    assert result.manifest["status"] == "interrupted"
    assert len(result.updates) > 0
    assert len(result.metrics) > 1
    assert "test_loss" in result.metrics
    assert main(["show", str(run)]) == 0


def test_ctrl_c_reaches_every_process(folder, start):
    """The terminal sends it to the whole group; each run saves what it has, and nobody complains."""
    process = start("run", "endless2.yaml", "--processes", "2")
    started = await_runs(folder, 2)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in out + err
    for run in started:
        result = load_result(run)
        assert result.manifest["status"] == "interrupted"
        assert len(result.updates) > 0


def test_kill_9(folder, start, capsys):
    """What was written before can be read; the run can be run again."""
    process = start("run", "endless.yaml")
    (run,) = await_runs(folder)
    process.kill()
    process.communicate()
    result = load_result(run)
    assert result.manifest["status"] == "running"
    assert result.updates.empty or len(result.updates) > 0
    assert main(["show", str(run)]) == 0
    assert "running" in capsys.readouterr().out
    assert main(["show", str(run), "--json"]) == 0
    again = RunDirectory(run).open()
    again.close()


def test_two_processes_on_one_folder(folder, start):
    first = start("run", "endless.yaml")
    (run,) = await_runs(folder)
    second = start("run", "endless.yaml")
    out, err = second.communicate(timeout=60)
    assert (second.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "another process is writing this run" in err
    assert first.poll() is None
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=30)
    assert load_result(run).manifest["status"] == "interrupted"


@pytest.mark.parametrize("words", ["list", "schema", "show short.yaml", "plan short.yaml", "--help"])
def test_a_reader_that_goes_away(folder, words):
    """Silent, with the code of SIGPIPE; argparse itself passes over a help that nobody reads."""
    command = f"{' '.join(ASYNCSIM)} {words} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout == ("0\n" if words == "--help" else "141\n")
    assert "Traceback" not in done.stderr
    assert "roken" not in done.stderr


def test_out_that_is_a_file(folder, capsys):
    for out in ("short.yaml", "short.yaml/below"):
        assert main(["run", "short.yaml", "--out", out]) == 2
        stdout, err = capsys.readouterr()
        assert stdout == ""
        assert f"asyncsim: {out}: is a file, or lies in one; choose a folder for --out\n" == err
    assert (folder / "short.yaml").read_text() == SHORT


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_out_that_cannot_be_written(folder, capsys):
    (folder / "locked").mkdir(mode=0o555)
    assert main(["run", "short.yaml", "--out", "locked"]) == 2
    assert "locked: cannot be written to: Permission denied" in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux")
def test_out_that_nobody_can_write(folder, capsys):
    assert main(["run", "short.yaml", "--out", "/proc/asyncsim"]) == 2
    assert "/proc/asyncsim: cannot be written to" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["run", "short.yaml"], ["plan", "short.yaml"]])
def test_memory_that_is_full(folder, capsys, monkeypatch, words):
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("asyncsim.cli.running.load_study", full)
    assert main(words) == 2
    assert capsys.readouterr().err == "asyncsim: out of memory: this machine has too little for that\n"


FOREIGN = {
    "a thesis": {"thesis.tex": "mine"},
    "another program's manifest": {"manifest.json": '{"short_name": "another program"}'},
    "no JSON": {"manifest.json": "mine"},
    "a later version": {"manifest.json": '{"format": 99, "name": "from the future"}'},
    "half like ours": {"scenario.yaml": "task: digits", "notes": "mine"},
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
def test_a_folder_that_is_no_run_is_never_touched(folder, capsys, content):
    main(["run", "short.yaml", "--no-figures"])
    (run,) = [path for path in (folder / "runs").iterdir() if path.is_dir()]
    for path in run.iterdir():
        path.unlink()
    for name, text in content.items():
        (run / name).write_text(text)
    capsys.readouterr()
    for force in ([], ["--force"]):
        assert main(["run", "short.yaml", *force]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert str(run.name) in err
        assert "Traceback" not in err
        assert {path.name: path.read_text() for path in run.iterdir()} == content


def test_a_file_where_the_run_should_be(folder, capsys):
    main(["run", "short.yaml", "--no-figures"])
    (run,) = [path for path in (folder / "runs").iterdir() if path.is_dir()]
    run.rename(folder / "elsewhere")
    run.write_text("mine")
    assert main(["run", "short.yaml"]) == 2
    assert run.read_text() == "mine"


def test_what_a_process_leaves_that_dies_before_its_first_manifest(folder):
    main(["run", "short.yaml", "--no-figures"])
    (run,) = [path for path in (folder / "runs").iterdir() if path.is_dir()]
    for path in run.iterdir():
        path.unlink()
    (run / "parts").mkdir()
    (run / ".manifest.json.123.tmp").write_text("{")
    assert main(["run", "short.yaml", "--no-figures"]) == 0
    assert load_result(run).manifest["status"] == "finished"


@pytest.mark.parametrize("nth", [1, 2, 3, 5, 7])
def test_disk_full(folder, monkeypatch, capsys, nth):
    """The ``nth`` file of the run does not fit: one message, no traceback, and what was written before can be read."""
    count = 0
    flush = os.fsync

    def full(file: int) -> None:
        nonlocal count
        count += 1
        if count >= nth:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(file)

    monkeypatch.setattr(os, "fsync", full)
    assert main(["run", "short.yaml", "--no-figures"]) == 2
    monkeypatch.undo()
    out, err = capsys.readouterr()
    assert out == ""
    assert "cannot be written: No space left on device" in err
    assert "Traceback" not in err
    assert not list(folder.rglob("*.tmp"))
    (run,) = [path for path in (folder / "runs").iterdir() if path.is_dir()]
    if nth > 2:
        assert load_result(run).manifest["status"] in ("running", "failed")
    assert main(["run", str(folder / "short.yaml"), "--no-figures", "--out", str(folder / "runs")]) == 0


def test_figures_that_cannot_be_written(folder, monkeypatch, capsys):
    """A full disk at the very end: the run is there, the message is one line."""
    import asyncsim.plots

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "convergence.png")

    monkeypatch.setattr(asyncsim.plots, "write_figures", full)
    assert main(["run", "short.yaml"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "asyncsim: convergence.png: No space left on device"
    assert main(["run", "short.yaml", "--no-figures"]) == 0
