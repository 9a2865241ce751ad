"""Whole simulated runs on each engine against a plain PyTorch loop that computes as many gradients, and against other designs.

Gap-Aware with momentum, every record on. Speeds are plain loop / simulation: above 1 the simulation is faster than training
without a simulator. The plain loop uses one thread. What is compared is gradients and updates: runs are evaluated at the start
and at the end only, on a few dozen samples, and batch norm keeps running statistics, for to recalibrate them costs as much as
dozens of gradients.

    python benchmarks/engines.py [--pairs 7] [--only digits]
"""

from __future__ import annotations

import argparse
import multiprocessing
import threading
import time
from collections.abc import Callable

import torch
from measure import machine, plain_loop, ratio

import asyncsim
from asyncsim.engine import kernels
from asyncsim.scenario import Document, Scenario, build_scenario

DIGITS = {"kind": "digits", "model": {"kind": "mlp", "hidden": [64]}, "batch": 32}
CASES = {
    # name: (task, updates, workers)
    "digits softmax 64-10": ({"kind": "digits", "model": "softmax", "batch": 32}, 3000, 32),
    "digits MLP 64-64-10": (DIGITS, 3000, 32),
    "mnist5k MLP 784-64-10": ({"kind": "mnist5k", "model": {"kind": "mlp", "hidden": [64]}, "batch": 32}, 2000, 32),
    "mnist5k MLP 784-256-10, batch 64": ({"kind": "mnist5k", "model": {"kind": "mlp", "hidden": [256]}, "batch": 64}, 600, 32),
    "mnist5k CNN, batch 64": ({"kind": "mnist5k", "model": "cnn", "batch": 64}, 200, 32),
    "mnist5k ResNet-8": ({"kind": "mnist5k", "model": "resnet8", "batch": 32}, 100, 32),
    "mnistm5k ResNet-20": ({"kind": "mnistm5k", "model": "resnet20", "batch": 32}, 48, 8),
}
ENGINES = {
    "serial": {"kind": "serial"},
    "auto, 1 core": {"kind": "auto"},
    "auto, 2 cores": {"kind": "auto", "cores": 2},
}


def scenario(task: dict, updates: int, workers: int, engine: dict, hetero: bool = False, lr: float = 1e-3) -> Scenario:
    data = {
        "task": task | {"validation": 0.01, "batch_norm": "running"}, "method": "gap_aware", "engine": engine,
        "run": {"updates": updates}, "evaluate": {"updates": updates, "splits": ["validation"]},
        "cluster": {"workers": workers, "compute": "gamma_heterogeneous" if hetero else "gamma_homogeneous"},
        "optimizer": {"kind": "sgd", "lr": lr, "momentum": 0.9, "weight_decay": 5e-4},
    }  # fmt: skip
    return build_scenario(Document(data, "benchmark"))


def thread_per_worker(run: Scenario) -> None:
    """The usual design of simulators: a thread for each worker, a lock around the server. Its result differs from run to run."""
    torch.set_num_threads(1)
    first = run.task.build(run.seed)
    state = {"params": first.init(), "updates": 0}
    lock = threading.Lock()

    def work(worker: int) -> None:
        task = first.replica()
        velocity = torch.zeros_like(state["params"])
        for step in range(run.run.updates):
            params = state["params"]
            gradient = kernels.batch_gradient(task, params, *task.batch(worker, step)).gradient
            with lock:
                if state["updates"] >= run.run.updates:
                    return
                state["updates"] += 1
                velocity.mul_(0.9).add_(gradient)
                state["params"] = state["params"].add(velocity, alpha=-run.optimizer.lr)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(run.cluster.num_workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def process_per_worker(run: Scenario) -> float:
    """The same with processes, parameters and velocity in shared memory. Seconds of work, without the start of the processes."""
    torch.set_num_threads(1)
    task = run.task.build(run.seed)
    params = task.init().share_memory_()
    velocity = torch.zeros_like(params).share_memory_()
    updates = multiprocessing.Value("q", 0)

    def work(worker: int) -> None:
        for step in range(run.run.updates):
            with updates.get_lock():
                snapshot = params.clone()
            gradient = kernels.batch_gradient(task, snapshot, *task.batch(worker, step)).gradient
            with updates.get_lock():
                if updates.value >= run.run.updates:
                    return
                updates.value += 1
                velocity.mul_(0.9).add_(gradient)
                params.add_(velocity, alpha=-run.optimizer.lr)

    return at_once([lambda worker=worker: work(worker) for worker in range(run.cluster.num_workers)])


def at_once(works: list[Callable[[], object]]) -> float:
    """Seconds that functions take in as many processes."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(works) + 1)

    def begin(work: Callable[[], object]) -> None:
        barrier.wait()
        work()

    processes = [context.Process(target=begin, args=(work,)) for work in works]
    for process in processes:
        process.start()
    barrier.wait()
    started = time.perf_counter()
    for process in processes:
        process.join()
    return time.perf_counter() - started


def two_plain_loops(run: Scenario) -> float:
    """Half the seconds of two plain loops in two processes: what the second core is worth on this machine, and no engine can beat
    by threads."""
    return at_once([lambda: plain_loop(run)] * 2) / 2


def show(values: tuple[float, float, float, float]) -> str:
    middle, low, high, _ = values
    return f"{1 / middle:.2f} ({1 / high:.2f} - {1 / low:.2f})"


def tasks_table(pairs: int, only: str) -> None:
    print("### Speed against the plain loop\n")
    others = {"a thread per worker": thread_per_worker, "a process per worker": process_per_worker,
              "two plain loops at once": two_plain_loops}  # fmt: skip
    titles = [*ENGINES, "auto, 1 core, heterogeneous", *others]
    print(f"| task, workers | plain loop, us | {' | '.join(titles)} |")
    print("|---|---" + "|---" * len(titles) + "|")
    for name, (task, updates, workers) in CASES.items():
        if only not in name:
            continue
        cells, plain = [], 0.0
        for engine in ENGINES.values():
            run = scenario(task, updates, workers, engine)
            values = ratio(lambda run=run: asyncsim.simulate(run), lambda run=run: plain_loop(run), pairs)
            cells.append(show(values))
            plain = 1e6 * values[3] / updates
        hetero = scenario(task, updates, workers, {"kind": "auto"}, hetero=True)
        cells.append(show(ratio(lambda run=hetero: asyncsim.simulate(run), lambda run=hetero: plain_loop(run), pairs)))
        for other in others.values():
            values = ratio(lambda run=hetero, other=other: other(run), lambda run=hetero: plain_loop(run), min(3, pairs))
            cells.append(show(values))
        print(f"| {name}, {workers} | {plain:,.0f} | {' | '.join(cells)} |", flush=True)


def fleet_table(pairs: int) -> None:
    print("\n### A fleet: eight learning rates of the digits MLP, heterogeneous workers, one process\n")

    def members(engine: dict) -> list[Scenario]:
        return [scenario(DIGITS, 1500, 32, engine, hetero=True, lr=1e-3 * (1 + index)) for index in range(8)]

    def serial() -> None:
        for member in members({"kind": "serial"}):
            asyncsim.simulate(member)

    def solo() -> None:
        for member in members({"kind": "auto"}):
            asyncsim.simulate(member)

    def fleet() -> None:
        asyncsim.simulate_many(members({"kind": "auto"}))

    pairs = max(3, pairs // 2)
    print("| eight runs | speed against eight serial runs |\n|---|---|")
    print(f"| auto, one after the other | {show(ratio(solo, serial, pairs))} |", flush=True)
    print(f"| auto, as a fleet | {show(ratio(fleet, serial, pairs))} |", flush=True)


def widths_table(pairs: int) -> None:
    print("\n### Width of the batched engine, digits MLP, microseconds an update\n")
    print("| workers | compute times | width 1 | 4 | 8 | 16 | 32 |\n|---|---|---|---|---|---|---|")
    for workers in (1, 8, 32, 128, 512):
        for hetero in (False, True):
            cells = []
            for width in (1, 4, 8, 16, 32):
                run = scenario(DIGITS, 2000, workers, {"kind": "batched", "width": width}, hetero=hetero)
                times = []
                for _ in range(3):
                    started = time.perf_counter()
                    asyncsim.simulate(run)
                    times.append(time.perf_counter() - started)
                cells.append(f"{1e6 * sorted(times)[1] / 2000:.0f}")
            print(f"| {workers} | {'heterogeneous' if hetero else 'homogeneous'} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--only", default="", help="only tasks whose name contains this, and no other tables")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{machine()}; medians of {arguments.pairs} interleaved pairs (smallest - largest)\n")
    tasks_table(arguments.pairs, arguments.only)
    if not arguments.only:
        fleet_table(arguments.pairs)
        widths_table(arguments.pairs)


if __name__ == "__main__":
    main()
