"""`plan` with all records on against the smallest SimPy model of the same cluster: a generator a worker, one timeout a push.

The minimal model draws the same gamma times in blocks, counts versions and staleness, and records nothing.

    python benchmarks/simpy_floor.py [--pairs 7]
"""

from __future__ import annotations

import argparse

import numpy as np
import simpy
from measure import machine, ratio

import asyncsim
from asyncsim.scenario import Document, build_scenario

PUSHES = 50_000


def minimal(workers: int) -> int:
    """Sum of the staleness of all pushes."""
    env = simpy.Environment()
    version, total, stop = 0, 0, env.event()
    rng = np.random.default_rng(0)

    def work():
        nonlocal version, total
        times: list[float] = []
        while True:
            read = version
            if not times:
                times = rng.gamma(100.0, 0.01, 64).tolist()
            yield env.timeout(times.pop())
            total += version - read
            version += 1
            if version == PUSHES:
                stop.succeed()

    for _ in range(workers):
        env.process(work())
    env.run(stop)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{machine()}; medians of {arguments.pairs} interleaved pairs, {PUSHES:,} pushes\n")
    print("| workers | minimal SimPy model, us a push | plan, all records on / minimal |\n|---|---|---|")
    for workers in (32, 1000, 10_000):
        data = {"task": "quadratic", "cluster": {"workers": workers}, "run": {"updates": PUSHES}}
        scenario = build_scenario(Document(data, "benchmark"))
        middle, low, high, seconds = ratio(
            lambda scenario=scenario: asyncsim.plan(scenario), lambda workers=workers: minimal(workers), arguments.pairs
        )
        print(f"| {workers:,} | {1e6 * seconds / PUSHES:.1f} | {middle:.1f} ({low:.1f} - {high:.1f}) |", flush=True)


if __name__ == "__main__":
    main()
