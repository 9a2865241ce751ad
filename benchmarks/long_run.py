"""Does a long run need more and more memory? 200,000 updates, written to a folder with checkpoints; with and without rows.

    python benchmarks/long_run.py [--updates 200000] [--figure docs/figures/memory.png]

Prints what was resident at the eighths of the run, and draws all that was measured (ten times a second at most).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import asyncsim
from asyncsim.scenario import Document, build_scenario

PAGE = os.sysconf("SC_PAGE_SIZE") / 1e6


def resident() -> float:
    """Megabytes of this process that lie in memory now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def measured(updates: int, records: bool) -> tuple[str, list[tuple[int, float]]]:
    """One run: what is to be said of it, and what was resident after so many updates."""
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [16]}, "batch": 8}, "method": "gap_aware",
        "cluster": {"workers": 16, "compute": {"kind": "gamma_heterogeneous", "mean": "1s"},
                    "faults": {"up": {"kind": "exponential", "mean": "10min"}, "down": "1min"}},
        "optimizer": {"kind": "sgd", "lr": 1e-3, "momentum": 0.9},
        "run": {"updates": updates}, "evaluate": {"updates": updates // 200}, "checkpoint": {"updates": updates // 20},
        "records": {"updates": records, "events": records},
    }  # fmt: skip
    seen: list[tuple[int, float]] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        scenario = build_scenario(Document(data, "benchmark"))
        result = asyncsim.simulate(scenario, Path(folder) / "run", lambda moment: seen.append((moment.updates, resident())))
    summary = result.summary
    told = f"{summary['pushes']:,} pushes, {summary['crashes']:,} crashes, {time.perf_counter() - begun:.0f} s"
    return told, seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--updates", type=int, default=200_000)
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    curves, rows = {}, []
    eighths = [arguments.updates * part // 8 for part in range(1, 9)]
    for label, records in (("every row kept", True), ("no rows kept", False)):
        with ProcessPoolExecutor(1, get_context("spawn")) as alone:
            told, seen = alone.submit(measured, arguments.updates, records).result()
        print(f"{label}: {told}", flush=True)
        curves[label] = seen
        sizes = [min(seen, key=lambda each, at=at: abs(each[0] - at))[1] for at in eighths]
        rows.append(f"| {label}, MB | {' | '.join(f'{size:.0f}' for size in sizes)} |")
    print(f"\n| updates | {' | '.join(f'{at:,}' for at in eighths)} |\n|---|{'---|' * 8}\n" + "\n".join(rows))
    if arguments.figure is not None:
        draw(curves, arguments.figure)


def draw(curves: dict[str, list[tuple[int, float]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    from asyncsim.plots.style import DOUBLE, RC

    with plt.rc_context(RC):
        figure, ax = plt.subplots(figsize=(DOUBLE, 2.4), layout="constrained")
        for label, seen in curves.items():
            ax.plot(*zip(*seen, strict=True), label=label)
        ax.set(xlabel="updates", ylabel="resident memory (MB)", xlim=(0, None), ylim=(0, None))
        ax.legend(loc="lower right")
        ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        figure.savefig(path)


if __name__ == "__main__":
    main()
