"""How stale pushes are."""

from __future__ import annotations

import numpy as np

from validation.laws import Law, between_pushes, scenario, staleness

EXPONENTIAL = {"kind": "exponential", "mean": 1.0}
GAMMA = {"kind": "gamma", "mean": 1.0, "cv": 0.1}
WORKERS = 8
MEANS = (0.5, 1.0, 2.0, 4.0)
RATES = tuple(1 / mean for mean in MEANS)


def equal(compute=EXPONENTIAL, workers=WORKERS):
    return lambda pushes: scenario(workers, compute, updates=pushes)


def unequal(kind="exponential"):
    """Four workers with means 0.5, 1, 2 and 4 s."""
    groups = [{"name": f"mean {mean:g}", "workers": 1, "compute": {"kind": kind, **_mean(kind, mean)}} for mean in MEANS]
    return lambda pushes: scenario(4, "1s", updates=pushes, cluster={"workers": None, "groups": groups})


def softsync(compute=EXPONENTIAL, n=1, workers=30):
    count = workers // n
    method = {"kind": "softsync", "n": n}
    return lambda pushes: scenario(workers, compute, method, updates=pushes // count)


def softsync_fresh(workers: int, count: int) -> float:
    """P(staleness 0) of softsync with memoryless workers.

    Between two pushes of a worker come J others', ``P(J < m) = 1 - (1 - 1/N)^m``; it reads when the buffer holds 0 to
    ``count - 1`` pushes, each as likely, and is fresh if its own push comes before, or as, the one that fills the buffer.
    """
    return float(np.mean([1 - (1 - 1 / workers) ** m for m in range(1, count + 1)]))


def fresh(result):
    return (staleness(result) == 0).astype(float)


def of_worker(worker: int):
    def observe(result):
        updates = result.tables["updates"]
        return updates["staleness"][updates["worker"] == worker]

    return observe


def _mean(kind: str, mean: float) -> dict[str, float]:
    return {"low": 0.0, "high": 2 * mean} if kind == "uniform" else {"mean": mean}


LAWS = (
    Law("equal memoryless workers: share of fresh pushes (geometric staleness)", "1 / N", 1 / WORKERS, equal(), fresh,
        "gamma times of CV 0.1", equal(GAMMA)),
    Law("equal memoryless workers: share staler than 2 N (geometric staleness)", "(1 - 1/N)^(2N + 1)",
        (1 - 1 / WORKERS) ** (2 * WORKERS + 1), equal(), lambda result: (staleness(result) > 2 * WORKERS).astype(float),
        "gamma times of CV 0.1", equal(GAMMA)),
    Law("equal workers (gamma, CV 0.1): mean staleness", "N - 1", WORKERS - 1.0, equal(GAMMA), staleness,
        "one worker more", equal(GAMMA, WORKERS + 1)),
    Law("unequal memoryless workers: mean staleness of the slowest", "sum of the others' rates / its own",
        sum(RATES[:3]) / RATES[3], unequal(), of_worker(3), "N - 1", 3.0),
    Law("unequal memoryless workers: mean staleness of the fastest", "sum of the others' rates / its own",
        sum(RATES[1:]) / RATES[0], unequal(), of_worker(0), "N - 1", 3.0),
    Law("unequal workers (uniform times): time between pushes", "1 / sum of 1 / mean", 1 / sum(RATES), unequal("uniform"),
        between_pushes, "N workers of the mean time", sum(MEANS) / 16),
    Law("2-softsync of 30 workers: mean staleness", "(N - 1) / floor(N / n)", 29 / 15, softsync(GAMMA, n=2), staleness,
        "N / floor(N / n)", 30 / 15),
    Law("1-softsync of 30 memoryless workers: share of fresh pushes", "mean of 1 - (1 - 1/N)^m, m = 1 .. N",
        softsync_fresh(30, 30), softsync(), fresh, "gamma times of CV 0.1", softsync(GAMMA)),
)  # fmt: skip
