"""Killed at random moments: families of methods, engines, faults and programs, in this process; and really, by signal 9."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import zlib
from typing import Any

import pytest
from dying import kill, made, same

import asyncsim
from asyncsim.checkpoint.cadence import Cadence
from asyncsim.records.checkpoints import checkpoint_files
from asyncsim.run import execution
from asyncsim.scenario import Scenario, dump_scenario

FAULTS = {"faults": {"up": {"kind": "exponential", "mean": "12s"}, "down": "2s"}}
LEAVING = {"events": [{"at": "6s", "workers": [1], "stop": True}, {"at": "4s", "workers": [0], "slowdown": 4, "duration": "9s"}]}
LINKS = {"server": {"service": {"kind": "exponential", "mean": "150ms"}}, "uplink": {"latency": "300ms"},
         "downlink": {"latency": {"kind": "exponential", "mean": "400ms"}}}  # fmt: skip
BATCHED = {"engine": {"kind": "batched", "width": 4}}
THREADED = {"engine": {"kind": "threaded"}}
DROPOUT = {"kind": "pydoc_lm", "batch": 4,
           "model": {"kind": "transformer", "context": 8, "layers": 1, "dim": 8, "heads": 2, "dropout": 0.2}}  # fmt: skip
RUNNING = {"kind": "mnist5k", "batch": 4, "model": "resnet8", "batch_norm": "running"}
LINKED = {"kind": "temporal_graph", "batch": 6, "width": 4, "neighbours": 2, "contacts": {"interactions": 150, "nodes": 9}}
MEMORY = {"k": 3, "memory": {"kind": "exponential", "mean": "300ms"}, "write": {"kind": "exponential", "mean": "2s"}}
STREAM = {"kind": "digits", "model": "softmax", "batch": 8, "partition": "class_incremental"}
LOCAL = {"optimizer": {"kind": "sgd", "lr": 1.0}, "schedule": {"kind": "linear", "warmup": 0.2}}

FAMILIES: dict[str, dict[str, Any]] = {
    "asgd, faults": {"cluster": FAULTS | LINKS},
    "asgd, batched, faults": {**BATCHED, "cluster": FAULTS | LINKS},
    "gap aware": {"method": "gap_aware", "cluster": LINKS, "schedule": {"kind": "cosine", "warmup": 0.1}},
    "gap aware, threaded": {**THREADED, "method": {"kind": "gap_aware", "per": "layer"}, "cluster": FAULTS},
    "softsync": {"method": {"kind": "softsync", "n": 2}, "cluster": FAULTS | LINKS},
    "softsync, batched": {**BATCHED, "method": {"kind": "softsync", "n": 2, "staleness_aware": False}, "cluster": LINKS},
    "look-ahead": {"method": "dana_gap_aware", "cluster": FAULTS},
    "delay compensation, adam": {"method": "dc_asgd", "optimizer": {"kind": "adam", "lr": 0.01}, "cluster": LINKS},
    "synchronous, workers leave": {"method": "bsp", "cluster": LEAVING, "run": {"updates": 20}},
    "bounded": {"method": {"kind": "ssp", "bound": 1}, "cluster": LEAVING | LINKS},
    "recalls, batched": {**BATCHED, "method": {"kind": "ringmaster", "threshold": 3, "stops": True}, "cluster": FAULTS},
    "drops": {"method": {"kind": "k_sync", "k": 3, "cancel": False}, "run": {"updates": 20}},
    "local steps": {**LOCAL, "method": "local_sgd", "run": {"updates": 15}},
    "local steps, buffered, batched": {**LOCAL, **BATCHED, "method": {"kind": "fedbuff", "buffer": 3}, "cluster": LINKS,
                                       "run": {"updates": 20}},
    "mixing": {**LOCAL, "method": "fedasync", "cluster": FAULTS},
    "memory of nodes": {"task": LINKED, "method": {"kind": "mspipe", "postpone": False, "blend": 0.2, "quantile": 0.5} | MEMORY,
                        "cluster": FAULTS | LINKS, "workers": 2},
    "gaps by the clock": {
        **LOCAL, "run": {"updates": 30},
        "cluster": FAULTS | {"instance": "pixel_2", "foreground": {"every": "6s", "session": "4s"}},
        "method": {"kind": "co_running", "slot": "500ms", "energy_weight": 2.0, "gap_bound": 0.1, "idle_gap": 0.02,
                   "slowdown_bound": 0.3, "local_lr": 0.5, "demand": "4s"},
    },
    "dropout, by time": {"task": DROPOUT, "run": {"time": "12s"}, "evaluate": {"time": "3s"}, "checkpoint": {"time": "2s"}},
    "running batch norm": {"task": RUNNING, "run": {"updates": 12}, "evaluate": {"updates": 5}, "checkpoint": {"updates": 3}},
    "divergence": {"task": {"kind": "quadratic", "curvature": 4.0}, "optimizer": {"kind": "sgd", "lr": 1e30},
                   "run": {"updates": 30}, "checkpoint": {"updates": 2}},
    "rows not kept": {**BATCHED, "records": {"updates": False, "events": False}, "method": {"kind": "softsync", "n": 2}},
    "stream": {"task": STREAM, "stream": {"period": "400ms"}, "cluster": FAULTS | LINKS, "method": {"kind": "iter_fisher"}},
    "target": {"run": {"updates": 200, "target": {"at_least": 0.4}}, "evaluate": {"updates": 7}},
}  # fmt: skip


def at_random(resumes: Any, name: str, count: int) -> None:
    """Kills at ``count`` random arrivals; the cadence is by turns that of the family and every update."""
    scenario = made(**FAMILIES[name])
    expected = asyncsim.simulate(scenario)
    pushes = expected.summary["pushes"]
    first = pushes // 2 if count < 5 else pushes // 3
    chosen = random.Random(zlib.crc32(name.encode())).sample(range(first, pushes), min(count, pushes - first))
    often = scenario.model_copy(update={"checkpoint": Cadence(updates=1)})
    half = len(chosen) // 2
    resumes(often, *chosen[:half] or chosen[:1], expected=expected)
    with pytest.MonkeyPatch.context() as patch:  # a checkpoint may be far, where updates are rare
        patch.setattr("dying.saved", lambda _: True)
        resumes(scenario, *chosen[half:], expected=expected)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_few_random_moments(resumes, name):
    at_random(resumes, name, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_thirty_random_moments(resumes, name):
    at_random(resumes, name, 30)


def test_killed_again_and_again(tmp_path):
    """A run that dies every few arrivals, each time in another process's shoes, ends as one that never did."""
    scenario = made(method={"kind": "softsync", "n": 2}, cluster=FAULTS | LINKS, **BATCHED, checkpoint={"updates": 2})
    expected = asyncsim.simulate(scenario)
    for _ in range(6):
        kill(scenario, tmp_path / "run", 17)
    same(asyncsim.resume(tmp_path / "run"), expected)


def test_run_goes_on_with_what_was_begun(tmp_path, monkeypatch):
    """``simulate`` into the folder of an unfinished run resumes it, ``fresh`` starts it again: the same result either way."""
    scenario = made()
    expected = asyncsim.simulate(scenario)
    starts = []
    restore = execution.restore
    monkeypatch.setattr(execution, "restore", lambda sim, start, **how: (starts.append(start), restore(sim, start, **how)))
    for fresh in (False, True):
        kill(scenario, tmp_path / "run", 50)
        same(asyncsim.simulate(scenario, tmp_path / "run", fresh=fresh), expected)
    assert [start.state["point"]["version"] for start in starts] == [49]


def test_a_finished_run_is_loaded(tmp_path):
    expected = asyncsim.simulate(made(), tmp_path / "run")
    same(asyncsim.resume(tmp_path / "run"), expected)


# Other ways to end.


@pytest.mark.parametrize("cadence", [{"minutes": 0}, {"updates": 1}, {"time": "700ms"}, {}, None, {"end": True}])
def test_the_cadence_changes_no_result(tmp_path, cadence):
    scenario = made(method="gap_aware", cluster=FAULTS, run={"updates": 30})
    other = scenario.model_copy(update={"checkpoint": None if cadence is None else Cadence(**cadence)})
    assert other.hash == scenario.hash
    same(asyncsim.simulate(other, tmp_path / "run"), asyncsim.simulate(scenario))
    assert len(checkpoint_files(tmp_path / "run")) == (cadence == {"end": True})


def test_interrupted_by_the_keyboard(tmp_path):
    scenario = made(method={"kind": "softsync", "n": 2}, cluster=LINKS)
    kill(scenario, tmp_path / "run", 60, error=KeyboardInterrupt)
    assert asyncsim.load_result(tmp_path / "run").manifest["status"] == "interrupted"
    same(asyncsim.resume(tmp_path / "run"), asyncsim.simulate(scenario))


def test_a_full_disk(tmp_path, monkeypatch):
    """A checkpoint that does not fit ends the run with one error; there is space again, and it goes on from the one before."""
    scenario = made()
    count, flush = 0, os.fsync

    def full(file: int) -> None:
        nonlocal count
        count += 1
        if count >= 20:
            raise OSError(28, "No space left on device")
        flush(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(asyncsim.UserError, match="cannot be written: No space left on device"):
            asyncsim.simulate(scenario, tmp_path / "run")
    assert checkpoint_files(tmp_path / "run")
    assert not list(tmp_path.rglob("*.tmp"))
    same(asyncsim.resume(tmp_path / "run"), asyncsim.simulate(scenario))


# Real processes.


def started(tmp_path: Any, scenario: Scenario, *words: str) -> tuple[subprocess.Popen, Any]:
    file = tmp_path / "long.yaml"
    file.write_text(dump_scenario(scenario))
    command = [sys.executable, "-m", "asyncsim", "run", str(file), "--out", str(tmp_path), "--no-figures", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    run = tmp_path / f"{scenario.name}-{scenario.hash}"
    deadline = time.monotonic() + 60
    while not checkpoint_files(run) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process, run


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_signals(tmp_path, number):
    scenario = made(run={"updates": 3000}, evaluate={"updates": 500}, checkpoint={"updates": 200}, cluster=FAULTS, **BATCHED)
    process, run = started(tmp_path, scenario)
    time.sleep(0.2)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL)
    again = [sys.executable, "-m", "asyncsim", "resume", str(run), "--json"]
    done = subprocess.run(again, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    same(asyncsim.load_result(run), asyncsim.simulate(scenario))
