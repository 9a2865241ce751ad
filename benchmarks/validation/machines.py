"""Machines that crash, come back, and are slow for a while; and machines in a row."""

from __future__ import annotations

import math

import numpy as np

from validation.laws import Law, at_work, between_updates, rate, scenario, spans

UP, DOWN, WORKERS = 10.0, 2.0, 50
RELIABLE = UP / (UP + DOWN)


def crashing(up="exponential", compute="1s"):
    """Up for 10 s on average, down for 2 s (gamma, CV 0.5); batches of 1 s."""
    law = {"kind": up, "mean": UP} | ({"cv": 0.5} if up == "gamma" else {})
    faults = {"up": law, "down": {"kind": "gamma", "mean": DOWN, "cv": 0.5}}
    return lambda pushes: scenario(WORKERS, compute, updates=pushes, cluster={"faults": faults})


SCALE, SHAPE, NOTICE = 20.0, 2.0, 8.0
MEAN_LIFE = SCALE * math.gamma(1 + 1 / SHAPE)


def survives(seconds):
    """The chance that a Weibull life is so long."""
    return math.exp(-((seconds / SCALE) ** SHAPE))


WARNED = (survives(1.0) + sum(survives(NOTICE + count) for count in range(1, 200))) / (MEAN_LIFE + DOWN)
"""Of a life L a worker begins a batch of 1 s at once, others before L - 8 s: one if L > 1, one for each j >= 1 with L > 8 + j."""
UNWARNED = WARNED + sum(survives(count) - survives(NOTICE) for count in range(2, 8)) / (MEAN_LIFE + DOWN)
"""The same, but that lives of up to 8 s are not warned, and filled with batches."""


def announced():
    """Weibull lives of mean 17.7 s, of which 15 % are shorter than the warning."""
    life = {"kind": "weibull", "scale": SCALE, "shape": SHAPE}
    faults = {"up": life, "down": {"kind": "gamma", "mean": DOWN, "cv": 0.5}, "warning": NOTICE}
    return lambda pushes: scenario(WORKERS, "1s", updates=pushes, cluster={"faults": faults})


def slowed(factor=5.0):
    """Normal for 30 s and slow for 10 s on average; batches of 1 s at full speed."""
    holding = {name: {"kind": "exponential", "mean": mean} for name, mean in (("normal", 30.0), ("slow", 10.0))}
    return lambda pushes: scenario(20, {"kind": "two_state", "base": "1s", "factor": factor, **holding}, updates=pushes)


def staged(method, stages, batches=1):
    """A model of four layers cut into equal stages, or into stages of given weights; a batch takes 1 s in all."""
    weights = (1,) * stages if isinstance(stages, int) else stages
    task = {"kind": "digits", "model": {"kind": "mlp", "hidden": [16] * (len(weights) - 1)}, "batch": 32}
    section = {"count": len(weights), "split": "layers", "time": list(weights)}
    return lambda pushes: scenario(
        len(weights), "1s", method, updates=max(200, pushes // (len(weights) * batches)), task=task, stages=section
    )


def pushes_a_worker(result) -> np.ndarray:
    """Pushes a second and worker, over windows."""
    times = result.tables["updates"]["time_ns"]
    return rate(times, float(times.max())) / result.summary["workers"]


def crashes_a_worker(result) -> np.ndarray:
    """Crashes a second and worker, over windows."""
    return rate(spans(result, "down")["start_ns"], 0.98 * float(result.tables["events"]["end_ns"].max())) / WORKERS


def share_down(result) -> np.ndarray:
    return at_work(result, "down") / WORKERS


def updates_of_first(result) -> np.ndarray:
    return between_updates(result, worker=0)


LAWS = (
    Law("renewal: share of time down (gamma up and down times)", "down / (up + down)", 1 - RELIABLE, crashing("gamma"),
        share_down, "down / up", DOWN / UP),
    Law("renewal: crashes a second and worker", "1 / (up + down)", 1 / (UP + DOWN), crashing("gamma"), crashes_a_worker,
        "1 / up", 1 / UP),
    Law("memoryless crashes lose the batch in flight: pushes a second and worker", "1 / (exp(t / up) - 1) / (up + down)",
        1 / math.expm1(1 / UP) / (UP + DOWN), crashing(), pushes_a_worker, "availability / t, nothing lost", RELIABLE),
    Law("memoryless crashes and batches: pushes a second and worker", "availability / t", RELIABLE,
        crashing(compute={"kind": "exponential", "mean": 1.0}), pushes_a_worker, "constant batches", crashing()),
    Law("warned lives (Weibull), some shorter than the warning w: pushes a second and worker",
        "(S(t) + sum S(w + j t)) / (up + down)", WARNED, announced(), pushes_a_worker, "short lives are not warned", UNWARNED),
    Law("two states (5 times slower for a quarter of the time): pushes a second and worker", "(1 - p) + p / factor",
        0.75 + 0.25 / 5, slowed(), pushes_a_worker, "each batch slow with chance p", 1 / (0.75 + 0.25 * 5)),
    Law("GPipe, 4 stages, 8 micro-batches: time of an update", "(m + p - 1) / m / p", 11 / 8 / 4,
        staged({"kind": "gpipe", "micro_batches": 8}, 4, 8), updates_of_first, "no bubble, 1 / p", 1 / 4),
    Law("PipeDream, stages of weight 1, 2, 3, 2: time of an update", "max(F + B)", 3 / 8, staged("pipedream", (1, 2, 3, 2)),
        updates_of_first, "equal stages", 1 / 4),
)  # fmt: skip
