"""Fair timing on noisy machines: interleaved pairs, and the median of their ratios."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from asyncsim.scenario import Scenario
from asyncsim.tasks.task import Task


def ratio(ours: Callable[[], object], other: Callable[[], object], pairs: int = 7) -> tuple[float, float, float, float]:
    """Median, smallest and largest ``time(ours) / time(other)`` of interleaved pairs, and the median seconds of ``other``.

    A function that returns a float has measured itself: the seconds that count.
    """
    ours(), other()  # warm up
    ratios, others = [], []
    for index in range(pairs):
        first, second = (ours, other) if index % 2 else (other, ours)
        times = {first: _seconds(first)}
        times[second] = _seconds(second)
        ratios.append(times[ours] / times[other])
        others.append(times[other])
    return statistics.median(ratios), min(ratios), max(ratios), statistics.median(others)


def machine() -> str:
    """CPU model, as far as the system tells, and versions."""
    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open() as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, Python {platform.python_version()}, torch {torch.__version__}"


def plain_loop(run: Scenario, fused: bool = False) -> None:
    """The loop a user would write without a simulator, on the batches of worker 0, with one thread.

    Evaluated at the start and at the end, as a run is.
    """
    torch.set_num_threads(1)
    task = run.task.build(run.seed)
    task.bind(task.init())
    _evaluate(task, run)
    options = {"fused": True} if fused else {}
    optimizer = torch.optim.SGD(
        task.module.parameters(), lr=run.optimizer.lr, momentum=run.optimizer.momentum,
        weight_decay=run.optimizer.weight_decay, **options,
    )  # fmt: skip
    for step in range(run.run.updates):
        inputs, targets = task.batch(0, step)
        optimizer.zero_grad()
        task.loss(task.module(inputs), targets).backward()
        optimizer.step()
    _evaluate(task, run)


def _evaluate(task: Task, run: Scenario) -> None:
    params = torch.nn.utils.parameters_to_vector(task.module.parameters()).detach()
    for split in run.evaluate.splits:
        task.evaluate(params, split)


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    own = function()
    return own if isinstance(own, float) else time.perf_counter() - started
