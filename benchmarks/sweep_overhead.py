"""What a sweep costs beside its runs: bookkeeping per run on a fleet, and reading back a finished sweep of 100 runs."""

from __future__ import annotations

import statistics
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


def main() -> None:
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


if __name__ == "__main__":
    main()
