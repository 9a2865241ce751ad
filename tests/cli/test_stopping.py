"""Signals that ask for an end, with real processes: exit codes, what is left on disk, that nobody is left alive, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from asyncsim import load_result, load_study, simulate, stopping
from asyncsim.cli import main
from asyncsim.errors import Busy
from asyncsim.records.locks import held
from asyncsim.sweep import run_folder
from asyncsim.sweep.runner import KILLED

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
TEXT = """\
task: {kind: digits, model: softmax, batch: 8}
engine: {kind: batched, width: 4}
run: {updates: 4000}
evaluate: {updates: 500}
checkpoint: {updates: 300}
sweep: {grid: {cluster.workers: [2, 3, 4]}}
"""


def test_the_first_signal_raises_and_the_next_ones_do_not_disturb():
    before = signal.getsignal(signal.SIGTERM)
    with stopping.stoppable():
        with pytest.raises(stopping.Stopped):
            signal.raise_signal(signal.SIGTERM)
        assert (stopping.exit_code(), stopping.asked()) == (143, True)
        signal.raise_signal(signal.SIGTERM)  # within the second that counts as one request
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(stopping.Stopped, match="SIGTERM"):  # for who has missed it
            stopping.check()
    assert not stopping.asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_section_that_is_not_to_be_cut_short():
    done = []

    def work():
        with stopping.undisturbed():
            with stopping.undisturbed():
                signal.raise_signal(signal.SIGINT)
            done.append(True)

    with stopping.stoppable(), pytest.raises(stopping.Stopped):
        work()
    assert done
    with stopping.stoppable():
        with pytest.raises(stopping.Stopped):
            signal.raise_signal(signal.SIGINT)
        with stopping.undisturbed():  # such as what is saved afterwards
            pass


def test_what_was_ignored_stays_ignored():
    """As under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.stoppable():
            signal.raise_signal(signal.SIGHUP)
            assert not stopping.asked()
    finally:
        signal.signal(signal.SIGHUP, before)


SWALLOWED = """
import signal, time
from asyncsim.stopping import stoppable
with stoppable():
    try:
        print("ready", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("saving", flush=True)
        time.sleep(60)
"""


def test_a_second_ctrl_c_ends_at_once():
    process = subprocess.Popen([sys.executable, "-c", SWALLOWED], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "saving\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(1.2 * stopping.ONE_REQUEST)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == -signal.SIGINT
    process.stdout.close()


def test_a_lock_is_exclusive_though_its_file_comes_and_goes(tmp_path):
    lock, inside, most, busy = tmp_path / ".lock", [0], [0], [0]

    def work():
        for _ in range(150):
            try:
                with held(lock, "busy"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    time.sleep(0)
                    inside[0] -= 1
            except Busy:
                busy[0] += 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert busy[0] < 600
    assert list(tmp_path.iterdir()) == []


class Command:
    """One in a session of its own."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asyncsim", *words, "--no-figures"], cwd=folder,
            stdout=subprocess.DEVNULL, stderr=(folder / "stderr").open("w"), start_new_session=True,
        )  # fmt: skip

    def wait_for_runs(self, count: int) -> None:
        """Until so many have something to resume from."""
        deadline = time.monotonic() + 120
        while len(list(self.folder.glob("runs/s/*/checkpoints/*"))) < count and time.monotonic() < deadline:
            assert self.process.poll() is None, self.stderr
            time.sleep(0.05)

    @property
    def stderr(self) -> str:
        return (self.folder / "stderr").read_text()

    @property
    def others(self) -> list[int]:
        """Processes of the session that live, without the first."""
        listed = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in listed.splitlines()]
        return [int(pid) for pid, group, state in rows
                if int(group) == self.process.pid != int(pid) and not state.startswith("Z")]  # fmt: skip

    def all_gone(self, within: float) -> bool:
        deadline = time.monotonic() + within
        while self.others and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.others


@pytest.fixture
def start(tmp_path):
    commands = []

    def start(*words: str) -> Command:
        (tmp_path / "s.yaml").write_text(TEXT)
        commands.append(Command(tmp_path, *words))
        return commands[-1]

    yield start
    for command in commands:
        for pid in (command.process.pid, *command.others):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        command.process.wait()


def statuses(folder: Path) -> set[str]:
    return {json.loads(path.read_text())["status"] for path in folder.glob("runs/s/*/manifest.json")}


def goes_on(folder: Path) -> None:
    """The same command again ends well, with the bits of runs that nothing happened to, and leaves no lock behind."""
    study = load_study(folder / "s.yaml")
    assert main(["sweep", str(folder / "s.yaml"), "--out", str(folder / "runs"), "--executor", "fleet", "--no-figures"]) == 0
    for index, scenario in enumerate(study.scenarios):
        found = load_result(run_folder(folder / "runs", study, index))
        assert found.fingerprints == simulate(scenario).fingerprints
    assert [path.name for path in folder.rglob(".*")] == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGHUP, 129, marks=pytest.mark.slow)])
def test_sigterm_is_like_ctrl_c(tmp_path, start, number, code):
    command = start("sweep", "s.yaml", "--executor", "fleet")
    command.wait_for_runs(2)
    command.process.send_signal(number)
    assert command.process.wait(60) == code
    assert command.stderr.endswith("asyncsim: interrupted; the same command goes on with what is saved in runs\n")
    assert "Traceback" not in command.stderr
    assert statuses(tmp_path) == {"interrupted"}
    if number == signal.SIGTERM:
        goes_on(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_pool_ends_with_its_parent(tmp_path, start, number):
    """Only the parent gets the signal; runs save their records even when it is killed."""
    command = start("sweep", "s.yaml", "--processes", "2")
    command.wait_for_runs(2)
    assert len(command.others) >= 2
    command.process.send_signal(number)
    assert command.process.wait(60) == (143 if number == signal.SIGTERM else -number)
    assert command.all_gone(within=30)
    assert "Traceback" not in command.stderr
    assert statuses(tmp_path) <= {"interrupted", "finished"}
    goes_on(tmp_path)


DEADLY = """
import os
import numpy as np
from asyncsim import Delay, load_study
from asyncsim.registries import delays
from asyncsim.sweep import Executor, simulate_sweep

@delays.register("deadly")
class Deadly(Delay):
    "A plugin that ends its process."

    @property
    def expected(self):
        return 1.0

    def sample(self, rng, size):
        os._exit(3)

if __name__ == "__main__":
    result = simulate_sweep(load_study("s.yaml"), "runs", Executor("processes", 2))
    print([each is not None for each in result.results], result.errors)
"""


@pytest.mark.slow
def test_a_plugin_that_ends_its_process(tmp_path):
    """Its run fails, the others are done: those beside it again, those behind it on a new pool."""
    (tmp_path / "deadly.py").write_text(DEADLY)
    sweep = "sweep: {list: [{cluster.workers: 1}, {cluster.compute: deadly}, {cluster.workers: 2}, {cluster.workers: 3}]}\n"
    (tmp_path / "s.yaml").write_text("task: {kind: digits, model: softmax}\nrun: {updates: 20}\n" + sweep)
    done = subprocess.run([sys.executable, "deadly.py"], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"[True, False, True, True] {{1: {KILLED!r}}}\n"
