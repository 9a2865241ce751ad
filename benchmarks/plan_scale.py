"""How far `plan` goes: 10,000 workers, 1,000,000 pushes, all records on. The goal is 3 minutes and 2 GB.

    python benchmarks/plan_scale.py [--workers 10000] [--pushes 1000000]
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import asyncsim
from asyncsim.scenario import Document, build_scenario


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=10_000)
    parser.add_argument("--pushes", type=int, default=1_000_000)
    arguments = parser.parse_args()
    data = {"task": {"kind": "digits"}, "cluster": {"workers": arguments.workers}, "run": {"updates": arguments.pushes}}
    scenario = build_scenario(Document(data, "benchmark"))
    started = time.perf_counter()
    result = asyncsim.plan(scenario)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    print(f"{arguments.workers:,} workers, {result.summary['pushes']:,} pushes: {seconds:.1f} s, peak {peak:,.0f} MB, "
          f"{1e6 * seconds / arguments.pushes:.1f} us a push; torch imported: {'torch' in sys.modules}")  # fmt: skip


if __name__ == "__main__":
    main()
