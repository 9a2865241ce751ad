"""Fair timing on noisy machines: interleaved pairs, and the median of their ratios."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def ratio(ours: Callable[[], object], other: Callable[[], object], pairs: int = 7) -> tuple[float, float, float, float]:
    """Median, smallest and largest ``time(ours) / time(other)`` of interleaved pairs, and the median seconds of ``other``."""
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
    import torch

    model = platform.processor() or platform.machine()
    try:
        with Path("/proc/cpuinfo").open() as file:
            model = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, Python {platform.python_version()}, torch {torch.__version__}"


def _seconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
