"""What the simulation costs: whole simulated runs against a plain PyTorch loop that computes as many gradients.

Serial engine, every record on, one thread. The plain loop has the same model, batches, loss and `torch.optim.SGD`, and as
many evaluations (two). The goal is at most 1.15 for plain ASGD on the MNIST-5k MLP. Other engines: benchmarks/engines.py.

    python benchmarks/overhead.py [--pairs 7] [--updates 3000]
"""

from __future__ import annotations

import argparse
from functools import partial

import torch
from measure import machine, plain_loop, ratio

import asyncsim
from asyncsim.scenario import Document, Scenario, build_scenario

TASKS = {
    "mnist5k MLP 784-64-10": {"kind": "mnist5k", "model": {"kind": "mlp", "hidden": [64]}, "batch": 32},
    "digits MLP 64-64-10": {"kind": "digits", "model": {"kind": "mlp", "hidden": [64]}, "batch": 32},
    "mnist5k CNN": {"kind": "mnist5k", "model": "cnn", "batch": 32},
}


def scenario(task: dict, method: str, updates: int) -> Scenario:
    """32 homogeneous workers; the learning rate is small, so that nothing diverges."""
    data = {
        "task": task, "cluster": {"workers": 32}, "method": method, "engine": "serial",
        "run": {"updates": updates}, "evaluate": {"updates": updates},
        "optimizer": {"kind": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 5e-4},
    }  # fmt: skip
    return build_scenario(Document(data, "benchmark"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--updates", type=int, default=3000)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; median of {arguments.pairs} interleaved pairs, {arguments.updates} updates (a tenth for the CNN)\n")
    print("| task | method | simulated / plain loop (min - max) | plain loop, us a gradient | / plain loop with fused SGD |")
    print("|---|---|---|---|---|")
    for name, task in TASKS.items():
        updates = arguments.updates // 10 if "CNN" in name else arguments.updates
        for method in ("asgd", "staleness_aware", "gap_aware"):
            run = scenario(task, method, updates)
            simulated = partial(asyncsim.simulate, run)
            middle, low, high, seconds = ratio(simulated, partial(plain_loop, run, False), arguments.pairs)
            fused = ratio(simulated, partial(plain_loop, run, True), arguments.pairs)[0]
            spread = f"{middle:.2f} ({low:.2f} - {high:.2f})"
            print(f"| {name} | {method} | {spread} | {1e6 * seconds / updates:.0f} | {fused:.2f} |", flush=True)


if __name__ == "__main__":
    main()
