"""Where runs are done makes no difference: bits, order, failures, gaps, Ctrl-C, two sweeps at once, killed processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import asyncsim.sweep.pool as pool_module
from asyncsim import load_study, simulate, simulate_study
from asyncsim.cli import main
from asyncsim.sweep import Executor, load_sweep, run_folder, simulate_sweep
from asyncsim.sweep.attempt import claimed
from asyncsim.sweep.runner import KILLED

TEXT = """\
task: {kind: digits, model: {kind: mlp, hidden: [8]}, batch: 8}
engine: {kind: batched, width: 4}
run: {updates: 40}
variants: {asgd: {method: asgd}, gap: {method: gap_aware}}
sweep: {grid: {cluster.workers: [2, 6]}, seeds: 2}
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(TEXT)
    return load_study("s.yaml")


def prints(results):
    return [result and result.fingerprints for result in results]


def reports(study, out, **options):
    seen = []
    results = simulate_study(study, out, report=seen.append, **options)
    return results, [report for report in seen if report.moment is None]


def test_fleet_pool_and_solo_have_the_same_bits(study, tmp_path):
    solo = [simulate(scenario).fingerprints for scenario in study.scenarios]
    assert len({each["trajectory"] for each in solo}) == 8
    assert prints(simulate_study(study, executor=Executor("fleet"))) == solo
    assert prints(simulate_study(study, tmp_path / "out", executor=Executor("processes", 2))) == solo


def test_a_fleet_of_runs_with_different_threads(study):
    import torch

    before = torch.get_num_threads()
    mixed = study.__class__(study.name, tuple(s.evolve(threads=1 + i % 2) for i, s in enumerate(study.scenarios)), study.variants)
    assert prints(simulate_study(mixed)) == [simulate(scenario).fingerprints for scenario in mixed.scenarios]
    assert torch.get_num_threads() == before


def test_a_rerun_fills_only_gaps_and_an_edited_point_runs_alone(study, tmp_path):
    first, _ = reports(study, "out")
    folder = run_folder(tmp_path / "out", study, 3)
    (folder / "manifest.json").unlink()
    (folder / "summary.json").unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    again, seen = reports(study, "out")
    assert [report.index for report in seen if not report.reused] == [3]
    assert prints(again) == prints(first)
    (tmp_path / "s.yaml").write_text(TEXT.replace("[2, 6]", "[2, 5]"))
    edited, seen = reports(load_study("s.yaml"), "out")
    assert sorted(report.index for report in seen if not report.reused) == [2, 3, 6, 7]
    assert prints(edited)[:2] == prints(first)[:2]


BROKEN = TEXT.replace("[2, 6]", "[2]").replace("gap: {method: gap_aware}", "bad: {task: {batch: 5000}}")


def test_failures_are_listed_and_leave_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text(BROKEN)
    assert main(["sweep", "s.yaml", "--executor", "fleet", "--no-figures"]) == 1
    _, err = capsys.readouterr()
    assert "2 of 4 runs failed:\nbad,workers=2, seed 0: task.batch: 5000" in err
    loaded = load_sweep(tmp_path / "runs" / "s")
    assert sorted(loaded.errors) == [2, 3]
    assert list(loaded.runs["status"]) == ["finished", "finished", "failed", "failed"]
    assert list(loaded.table["failed"]) == [0]
    assert main(["sweep", "s.yaml", "--executor", "fleet", "--no-figures"]) == 1
    assert capsys.readouterr().err.count("reused") == 2


def test_an_unexpected_error_of_one_run_is_isolated(study, monkeypatch):
    import asyncsim.sweep.attempt as attempt

    real = attempt.simulate

    def sometimes(scenario, *rest, **options):
        if scenario.seed == 1:
            raise ZeroDivisionError("a plugin's mistake")
        return real(scenario, *rest, **options)

    monkeypatch.setattr(attempt, "simulate", sometimes)
    results, seen = reports(study, None)
    assert [result is None for result in results] == [False, True] * 4
    assert "ZeroDivisionError: a plugin's mistake (test_executors.py:" in next(r.error for r in seen if r.error)


def test_a_run_that_another_sweep_is_doing_is_waited_for(study, tmp_path):
    """The other one finishes run 0 and dies in run 1: the first is taken over, the second done here."""
    folders = [run_folder(tmp_path / "out", study, index) for index in (0, 1)]
    taken, let_go = threading.Event(), threading.Event()

    def other():
        with claimed(folders[0]), claimed(folders[1]):
            taken.set()
            let_go.wait(30)
            simulate(study.scenarios[0], folders[0])

    thread = threading.Thread(target=other)
    thread.start()
    taken.wait(30)
    threading.Timer(0.5, let_go.set).start()
    results, seen = reports(study, tmp_path / "out")
    thread.join()
    assert [report.index for report in seen if report.waiting] == [0, 1]
    assert [report.index for report in seen if report.reused] == [0]
    assert all(prints(results))


ENDLESS = """\
task: {kind: digits, model: softmax}
run: {updates: 50_000_000}
evaluate: {updates: 500}
sweep: {grid: {cluster.workers: [2, 3, 4]}}
"""


@pytest.mark.parametrize("words", [["--executor", "fleet"], ["--processes", "2"]])
def test_ctrl_c(tmp_path, words):
    """Every run that has begun is saved; the rest is not begun."""
    (tmp_path / "s.yaml").write_text(ENDLESS)
    command = [sys.executable, "-m", "asyncsim", "sweep", "s.yaml", "--set", "engine={kind: batched, width: 4}", *words]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while len(list(tmp_path.glob("runs/s/*/manifest.json"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(3)  # an import that is cut short is another error
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, err
    assert "Traceback" not in out + err
    statuses = [json.loads(path.read_text())["status"] for path in tmp_path.glob("runs/s/*/manifest.json")]
    assert set(statuses) == {"interrupted"}
    assert len(statuses) >= 2


def test_two_sweeps_on_one_folder(study, tmp_path):
    """Both end well, with the same table; between them every run was done, none was harmed."""
    command = [sys.executable, "-m", "asyncsim", "sweep", "s.yaml", "--executor", "fleet", "--no-figures", "--json"]
    both = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    first, second = ([run["fingerprints"] for run in json.loads(out)["runs"]] for out, _ in said)
    assert first == second == prints(simulate_study(study))


@pytest.mark.slow
def test_a_process_that_is_killed_takes_no_other_run_with_it(study, tmp_path, monkeypatch):
    """Once: the run is done again. Each time: that run alone fails."""
    work = pool_module._work
    assert work.__module__ == "asyncsim.sweep.pool"
    monkeypatch.setattr(pool_module, "_work", _deadly)
    results, seen = reports(study, tmp_path / "out", executor=Executor("processes", 2))
    assert [index for index, result in enumerate(results) if result is None] == [1]
    assert [report.error for report in seen if report.error] == [KILLED]
    assert prints(results)[2:] == prints(simulate_study(study))[2:]


_work = pool_module._work


def _deadly(index, document, folder, force, shared):
    mark = folder.parent.parent / f"killed-{index}"
    if index == 1 or (index == 4 and not mark.exists()):
        mark.parent.mkdir(exist_ok=True)
        mark.touch()
        pool_module._moments.put((index, None))
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGKILL)
    return _work(index, document, folder, force, shared)


def test_simulate_sweep_without_a_folder(study):
    result = simulate_sweep(study)
    assert list(result.runs["cluster.workers"]) == [2, 2, 6, 6] * 2
    assert (result.path, len(result.table), list(result.table["runs"])) == (None, 4, [2] * 4)
