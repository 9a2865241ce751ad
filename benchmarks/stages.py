"""What a batch costs that goes through stages, against the same batch as one gradient of a whole model; and what stays in memory.

    python benchmarks/stages.py [--pairs 7]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median

from measure import machine

import asyncsim
from asyncsim.scenario import Scenario

TASKS = {
    "mnist5k MLP 784-64-64-64-10": ({"kind": "mnist5k", "model": {"kind": "mlp", "hidden": [64, 64, 64]}, "batch": 32}, 600),
    "mnist5k CNN, batch 64": ({"kind": "mnist5k", "model": "cnn", "batch": 64}, 60),
}
CURRENT = {"kind": "fdg", "backward_weights": "current"}
METHODS = {"bp": "bp", "fdg": "fdg", "pipedream": "pipedream", "fdg, current weights": CURRENT}


def seconds(task: dict, method: object, stages: int, updates: int) -> float:
    """CPU time of a run with one group; evaluated at the start and at the end."""
    scenario = Scenario.model_validate({
        "task": task, "cluster": {"workers": stages}, "stages": stages, "method": method, "engine": "serial",
        "optimizer": {"kind": "sgd", "lr": 0.01, "momentum": 0.9}, "run": {"updates": updates}, "evaluate": {"updates": updates},
    })  # fmt: skip
    started = time.process_time()
    asyncsim.simulate(scenario)
    return time.process_time() - started


def resident() -> float:
    """Memory of this process, MB."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096 / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    pairs = parser.parse_args().pairs
    print(f"{machine()}; medians of {pairs} interleaved pairs (smallest - largest), CPU time, four stages, one group\n")
    print(f"| task | whole model, us a batch | {' | '.join(METHODS)} |\n|---|---|{'---|' * len(METHODS)}")
    for name, (task, updates) in TASKS.items():
        seconds(task, "asgd", 1, 20)
        rows = []
        for _ in range(pairs):
            whole = seconds(task, "asgd", 1, updates)
            rows.append((whole, *(seconds(task, method, 4, updates) / whole for method in METHODS.values())))
        cells = [f"{median(each):.2f} ({min(each):.2f} - {max(each):.2f})" for each in list(zip(*rows, strict=True))[1:]]
        print(f"| {name} | {1e6 * median(row[0] for row in rows) / updates:,.0f} | {' | '.join(cells)} |")
    task = TASKS["mnist5k MLP 784-64-64-64-10"][0]
    print("\n| batches through four stages (fdg) | memory afterwards, MB |\n|---|---|")
    for updates in (500, 2000, 8000):
        seconds(task, "fdg", 4, updates)
        print(f"| {updates:,} | {resident():,.0f} |")


if __name__ == "__main__":
    main()
