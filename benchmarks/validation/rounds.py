"""Barriers: rounds end with an order statistic, and bounded staleness is a random walk between two walls."""

from __future__ import annotations

import numpy as np
from scipy import stats

from validation.laws import Law, between_pushes, between_updates, scenario

EXPONENTIAL = {"kind": "exponential", "mean": 1.0}
GAMMA = {"kind": "gamma", "mean": 1.0, "cv": 0.1}
UNIFORM = {"kind": "uniform", "low": 0, "high": 1}


def harmonic(n: int) -> float:
    return sum(1 / k for k in range(1, n + 1))


def largest_gamma(workers: int) -> float:
    """Expected largest of N gammas of mean 1, CV 0.1: the integral of ``1 - F^N``."""
    grid = np.linspace(0, 3, 30_001)
    return float(np.trapezoid(1 - stats.gamma(100, scale=0.01).cdf(grid) ** workers, grid))


def rounds(workers, compute, method="bsp", gathered=None):
    """Rounds that gather so many pushes each, all workers' unless told otherwise."""
    return lambda pushes: scenario(workers, compute, method, updates=pushes // (gathered or workers))


def bounded(bound, compute=EXPONENTIAL):
    return lambda pushes: scenario(2, compute, {"kind": "ssp", "bound": bound}, updates=pushes)


LAWS = (
    Law("BSP, 8 workers, exponential times: a round", "H_N", harmonic(8), rounds(8, EXPONENTIAL), between_updates,
        "gamma times of CV 0.1", rounds(8, GAMMA)),
    Law("BSP, 32 workers, gamma times of CV 0.1: a round", "integral of 1 - F^N", largest_gamma(32), rounds(32, GAMMA),
        between_updates, "the integral for N = 24", largest_gamma(24)),
    Law("K-sync with cancelling, K = 5 of 8, exponential times: a round", "H_N - H_(N-K)", harmonic(8) - harmonic(3),
        rounds(8, EXPONENTIAL, {"kind": "k_sync", "k": 5}, 5), between_updates, "without cancelling",
        rounds(8, EXPONENTIAL, {"kind": "k_sync", "k": 5, "cancel": False}, 5)),
    Law("backup workers, 2 of 6, uniform times from 0 to 1: a round", "K / (N + 1)", 4 / 7,
        rounds(6, UNIFORM, {"kind": "backup_workers", "backups": 2}, 4), between_updates, "one backup worker",
        rounds(6, UNIFORM, {"kind": "backup_workers", "backups": 1}, 5)),
    Law("SSP of bound 3, 2 workers, exponential times: time between pushes", "1 / (2 - 2 / (2 b + 3))", 1 / (2 - 2 / 9),
        bounded(3), between_pushes, "the formula for b = 2", 1 / (2 - 2 / 7)),
)  # fmt: skip
