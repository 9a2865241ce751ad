"""Memory of a run with many workers on a ResNet-20: every worker holds another version of 269,722 parameters.

    python benchmarks/memory.py [--workers 512] [--updates 700]
"""

from __future__ import annotations

import argparse
import resource
import sys

import asyncsim
from asyncsim.scenario import Document, build_scenario


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=512)
    parser.add_argument("--updates", type=int, default=700)
    arguments = parser.parse_args()
    data = {
        "task": {"kind": "mnistm5k", "model": "resnet20", "batch": 4}, "method": "gap_aware",
        "cluster": {"workers": arguments.workers},
        "optimizer": {"kind": "sgd", "lr": 1e-3, "momentum": 0.9},
        "run": {"updates": arguments.updates}, "evaluate": {"updates": arguments.updates},
    }  # fmt: skip
    result = asyncsim.simulate(build_scenario(Document(data, "benchmark")))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e3 if sys.platform != "darwin" else 1e6)
    print(f"ResNet-20, {arguments.workers} workers, {arguments.updates} updates, staleness up to "
          f"{result.summary['staleness_max']}: peak {peak:,.0f} MB, {result.summary['wall_seconds']:.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()
