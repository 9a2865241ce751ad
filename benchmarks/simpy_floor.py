"""`plan` with all records on against hand-written SimPy models of the same cluster: a generator a worker.

- *bare*: one timeout a push; versions and staleness are counted, nothing is recorded.
- *recording*: the same, with the rows that `plan` keeps (a span and an arrival a push), as columns and a hash at the end.
- *with a server*: pushes queue at a `simpy.Resource` with a service time; queueing, service and arrival are recorded as well.

All draw the same gamma times in blocks.

    python benchmarks/simpy_floor.py [--pairs 7]
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable

import numpy as np
import simpy
from measure import machine, ratio

import asyncsim
from asyncsim.scenario import Document, build_scenario

PUSHES = 50_000
SERVICE = 1e-6


class Model:
    """A cluster in thirty lines."""

    def __init__(self, workers: int, records: bool, server: bool) -> None:
        self.env = simpy.Environment()
        self.rng = np.random.default_rng(0)
        self.version = self.total = 0
        self.stop = self.env.event()
        self.server = simpy.Resource(self.env) if server else None
        self.spans: list[tuple] | None = [] if records else None
        self.arrivals: list[tuple] = []
        for worker in range(workers):
            self.env.process(self.work(worker))
        self.env.run(self.stop)
        for rows in (self.spans, self.arrivals) if records else ():
            digest = hashlib.sha256()
            for column in zip(*rows, strict=True):
                digest.update(np.array(column).tobytes())

    def work(self, worker: int):
        env, spans = self.env, self.spans
        times: list[float] = []
        while not self.stop.triggered:
            read, start = self.version, env.now
            if not times:
                times = self.rng.gamma(100.0, 0.01, 64).tolist()
            yield env.timeout(times.pop())
            if spans is not None:
                spans.append((2, worker, read, start, env.now, True))
            if self.server is not None:
                start = env.now
                with self.server.request() as turn:
                    yield turn
                    served = env.now
                    yield env.timeout(SERVICE)
                if spans is not None:
                    spans.append((4, worker, read, start, served, True))
                    spans.append((5, worker, read, served, env.now, True))
            self.total += self.version - read
            self.version += 1
            if spans is not None:
                self.arrivals.append((env.now, worker, read, self.version, self.version - 1 - read, 0, 0.1, 0.0, 1.0))
            if self.version == PUSHES:
                self.stop.succeed()


MODELS = {"bare": (False, False), "recording": (True, False), "with a server": (True, True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    print(f"{machine()}; medians of {arguments.pairs} interleaved pairs, {PUSHES:,} pushes\n")
    print("| workers | hand-written model | its time, us a push | plan, all records on / it |\n|---|---|---|---|")
    for workers in (32, 1000, 10_000):
        for name, (records, server) in MODELS.items():
            cluster = {"workers": workers} | ({"server": {"service": SERVICE}} if server else {})
            scenario = build_scenario(
                Document({"task": "quadratic", "cluster": cluster, "run": {"updates": PUSHES}}, "benchmark")
            )  # fmt: skip
            plan: Callable[[], object] = lambda scenario=scenario: asyncsim.plan(scenario)  # noqa: E731
            model: Callable[[], object] = lambda words=(workers, records, server): Model(*words)  # noqa: E731
            middle, low, high, seconds = ratio(plan, model, arguments.pairs)
            print(f"| {workers:,} | {name} | {1e6 * seconds / PUSHES:.1f} | {middle:.1f} ({low:.1f} - {high:.1f}) |", flush=True)


if __name__ == "__main__":
    main()
