"""Sweeps on Ray: a cluster of two nodes on this machine. Skipped where Ray is not installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asyncsim import UserError, load_study, simulate_study
from asyncsim.sweep import Executor, run_folder

TEXT = """\
task: {kind: digits, model: {kind: mlp, hidden: [8]}, batch: 8}
engine: {kind: batched, width: 4}
run: {updates: 40}
sweep: {grid: {cluster.workers: [2, 6], method: [asgd, gap_aware]}, seeds: 2}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "s.yaml").write_text(TEXT)
    return load_study(tmp_path / "s.yaml")


def test_without_ray_the_error_says_what_to_install(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed; it comes with `pip install asyncsim\[ray\]`"):
        simulate_study(study, executor=Executor("ray"))


@pytest.fixture
def cluster():
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_two_nodes(study, tmp_path, cluster):
    """The bits of this process; a killed worker's run is done again; what cannot be had is refused; a rerun reuses all."""
    out = tmp_path / "out"
    executor = Executor("ray", address=cluster.address)
    solo = [result.fingerprints for result in simulate_study(study)]
    killed = []

    def kill_one(report):
        """When the first run is over, kill the worker process of a run that is under way."""
        if report.moment is None and not killed:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                if b"ray::workers" in path.read_bytes() and int(path.parent.name) != os.getpid():
                    killed.append(int(path.parent.name))
                    os.kill(killed[0], signal.SIGKILL)
                    return
            time.sleep(0.01)

    errors = []
    results = simulate_study(
        study, out, executor=executor, report=lambda report: (errors.append(report.error), kill_one(report))
    )  # fmt: skip
    assert not any(errors)
    assert [result.fingerprints for result in results] == solo
    assert killed
    assert all((run_folder(out, study, index) / "summary.json").exists() for index in range(len(study)))
    reused = []
    simulate_study(study, out, executor=executor, report=lambda report: reused.append(report.reused))
    assert reused == [True] * len(study)
    with pytest.raises(UserError, match="a run asks for 3 CPU, the machines of this cluster have at most 1"):
        simulate_study(study, executor=Executor("ray", address=cluster.address, cpus=3))
    half = Executor("ray", address=cluster.address, cpus=0.5)
    assert [result.fingerprints for result in simulate_study(study, executor=half)] == solo  # results travel


@pytest.mark.slow
def test_a_cluster_of_its_own_and_failures(study, tmp_path):
    pytest.importorskip("ray")
    (tmp_path / "b.yaml").write_text(TEXT.replace("[2, 6]", "[2]").replace("batch: 8", "batch: 5000"))
    errors = []
    results = simulate_study(
        load_study(tmp_path / "b.yaml"), tmp_path / "out", executor=Executor("ray"), report=lambda each: errors.append(each.error)
    )  # fmt: skip
    assert results == [None] * 4
    assert all(error.startswith("task.batch: 5000 samples") for error in errors)


def test_no_such_cluster(study):
    pytest.importorskip("ray")
    with pytest.raises(UserError, match=r"Ray: no connection to 127\.0\.0\.1:1: "):
        simulate_study(study, executor=Executor("ray", address="127.0.0.1:1"))


ENDLESS = """\
task: {kind: quadratic}
run: {updates: 50_000_000}
evaluate: {updates: 5000}
checkpoint: {updates: 3000}
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_sigterm_lets_runs_save_their_records(tmp_path):
    """Also for a command in a shell's background, which ignores SIGINT: that is what Ray cancels with."""
    pytest.importorskip("ray")
    (tmp_path / "s.yaml").write_text(ENDLESS)
    command = [sys.executable, "-m", "asyncsim", "run", "s.yaml", "--executor", "ray"]
    process = subprocess.Popen(command, cwd=tmp_path, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/*/checkpoints/*")) and time.monotonic() < deadline:
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    finally:
        process.kill()
    (manifest,) = tmp_path.glob("runs/*/manifest.json")
    assert json.loads(manifest.read_text())["status"] == "interrupted"
