"""What a sweep costs beside its runs: bookkeeping on a fleet, reading back and plotting a finished sweep of 100 runs; and what a
second process gains.

    python benchmarks/sweep_overhead.py [--pairs 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from asyncsim import simulate
from asyncsim.scenario import Document, expand
from asyncsim.sweep import Executor, load_sweep, simulate_sweep

RUNS = 100
DATA = {
    "task": "quadratic",
    "run": {"updates": 200},
    "sweep": {"grid": {"cluster.workers": [1, 2, 4, 8, 16], "optimizer.lr": [0.1, 0.2]}, "seeds": RUNS // 10},
}


CNN = {
    "task": {"kind": "mnist5k", "model": "cnn", "batch": 64},
    "cluster": {"workers": 8},
    "run": {"updates": 1500},
    "evaluate": {"updates": 1500},
    "sweep": {"seeds": 4},
}


def main(pairs: int) -> None:
    started = time.perf_counter()
    study = expand(Document(DATA, "benchmark"), {}, None, "overhead")
    print(f"expand and validate {len(study)} runs: {1e3 * (time.perf_counter() - started):.0f} ms")
    simulate(study.scenarios[0])
    alone = []
    for scenario in study.scenarios:
        started = time.perf_counter()
        simulate(scenario)
        alone.append(time.perf_counter() - started)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        simulate_sweep(study, folder, Executor("fleet"))
        whole = time.perf_counter() - started
        print(f"a run alone, in memory: {1e3 * statistics.mean(alone):.1f} ms; in a sweep: {1e3 * whole / RUNS:.1f} ms")
        print(f"overhead of the sweep: {1e3 * (whole - sum(alone)) / RUNS:.1f} ms a run")
        started = time.perf_counter()
        simulate_sweep(study, folder, Executor("fleet"))
        print(f"the same sweep again, all reused: {time.perf_counter() - started:.2f} s")
        started = time.perf_counter()
        loaded = load_sweep(Path(folder) / study.name)
        rows = len(loaded.runs), len(loaded.table)
        print(f"load_sweep and tables ({rows[0]} runs, {rows[1]} points): {time.perf_counter() - started:.2f} s")
        started = time.perf_counter()
        command = [sys.executable, "-m", "asyncsim", "plot", str(Path(folder) / study.name), "--metric", "test_loss"]
        subprocess.run([*command, "--out", str(Path(folder) / "figure.png")], check=True, capture_output=True)
        print(f"asyncsim plot of its convergence, a process of its own: {time.perf_counter() - started:.2f} s")
    processes(pairs)


def processes(pairs: int) -> None:
    """Four CNN runs in two processes against one, whole sweeps with the start of the processes."""
    ratios = []
    for _ in range(pairs):
        seconds = []
        for count in (1, 2):
            with tempfile.TemporaryDirectory() as folder:
                started = time.perf_counter()
                study = expand(Document(CNN, "benchmark"), {}, None, "cnn")
                simulate_sweep(study, folder, Executor("processes", processes=count))
                seconds.append(time.perf_counter() - started)
        ratios.append(seconds[0] / seconds[1])
    low, high = min(ratios), max(ratios)
    print(f"four CNN runs, two processes against one: {statistics.median(ratios):.2f} ({low:.2f} - {high:.2f}) times as fast")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    main(parser.parse_args().pairs)
