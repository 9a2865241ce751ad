"""Figures of the literature beside simulated ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.special import gammainc

import asyncsim
from asyncsim.cluster import Cvb
from asyncsim.streams import Streams
from validation.laws import scenario

SIZES = (8, 16, 32, 64)
RATIOS = {
    "gamma_homogeneous": (1.15, 1.18, 1.22, 1.24),
    "gamma_heterogeneous": (3.3, 3.3, 4.1, 4.4),
}
"""Asynchronous over synchronous updates a second at 8, 16, 32 and 64 workers: an independent NumPy computation of the setting of
the Gap-Aware and DANA papers (8 fleets, 200 rounds). The papers' own figures were not available."""


CV_MACHINE = {"gamma_homogeneous": 0.0, "gamma_heterogeneous": 0.6}
MANY_FLEETS = 400


class Ratio(NamedTuple):
    setting: str
    workers: int
    reference: float
    simulated: np.ndarray  # (fleets,)
    expected: np.ndarray  # (MANY_FLEETS,), the first ones those of `simulated`


def ratios(fleets: int = 16, rounds: int = 200) -> list[Ratio]:
    """Gradients a second without barrier over those with one, no communication."""
    found = []
    for setting, references in RATIOS.items():
        for workers, reference in zip(SIZES, references, strict=True):
            values = [_ratio(setting, workers, rounds, seed) for seed in range(fleets)]
            expected = [expected_ratio(setting, workers, seed) for seed in range(MANY_FLEETS)]
            found.append(Ratio(setting, workers, reference, np.array(values), np.array(expected)))
    return found


def _ratio(setting: str, workers: int, rounds: int, seed: int) -> float:
    free, barrier = (
        asyncsim.plan(scenario(workers, setting, method, updates=updates, seed=seed)).summary["pushes_per_second"]
        for method, updates in (("asgd", rounds * workers), ("bsp", rounds))
    )
    return free / barrier


def expected_ratio(setting: str, workers: int, seed: int) -> float:
    """Of one fleet with mean times p: ``E[max t] * mean(1 / p)``, ``E[max t]`` the integral of ``1 - prod F(t / p)``."""
    delay = Cvb(mean=1.0, cv_machine=CV_MACHINE[setting], cv_task=0.1)
    means = np.array([delay.for_worker(Streams(seed), worker).mean for worker in range(workers)])
    grid = np.linspace(0, 2 * means.max(), 801)
    below = gammainc(100, 100 * grid[:, None] / means).prod(axis=1)
    return float(np.trapezoid(1 - below, grid) * (1 / means).mean())


class Staleness(NamedTuple):
    """Softsync of 30 workers: mean, largest, the share above 2n, and the shares of 0, 1 and 2."""

    n: int
    mean: float
    most: int
    above: float
    shares: np.ndarray


def softsync(pushes: int = 120_000, workers: int = 30) -> list[Staleness]:
    found = []
    for n in (1, 2, 6, 15, 30):
        method = {"kind": "softsync", "n": n}
        plan = asyncsim.plan(scenario(workers, "gamma_homogeneous", method, updates=pushes // (workers // n)))
        values = plan.tables["updates"]["staleness"]
        shares = np.bincount(values, minlength=3)[:3] / len(values)
        found.append(Staleness(n, float(values.mean()), int(values.max()), float((values > 2 * n).mean()), shares))
    return found


# Contention at a parameter server: the cost notebook of DGS (github.com/yanring/GradientServer), dense asynchronous SGD.

DGS_WORKERS = (1, 2, 4, 8, 16)
DGS_COMPUTE = (0.330, 0.330, 0.331, 0.344, 0.375)  # seconds
DGS_COMMUNICATION = {10e9: (0.169, 0.197, 0.254, 0.481, 1.007), 1e9: (0.903, 1.32, 1.4, 3.25, 6.0)}  # bit/s: seconds
DGS_BYTES = 24e6


class Contention(NamedTuple):
    """``efficiency``: the share of the nominal bandwidth that messages get; ``service``: seconds of the server for a push."""

    efficiency: float
    service: float
    seconds: dict[float, np.ndarray]  # bit/s: communication of an iteration at 1, 2, 4, 8 and 16 workers


def contention(efficiency: float, service: float, rounds: int = 60) -> Contention:
    """Pushes and parameters of 24 MB through one shared ingress and egress, then one queue; compute times have CV 0.1."""
    seconds = {}
    for bits in DGS_COMMUNICATION:
        rate = efficiency * bits / 8
        network = {"kind": "flat", "ingress": rate, "egress": rate}
        rows = []
        for workers, compute in zip(DGS_WORKERS, DGS_COMPUTE, strict=True):
            cluster = {"network": network, "server": {"service": service}}
            times = {"kind": "gamma", "mean": compute, "cv": 0.1}
            result = asyncsim.plan(scenario(workers, times, updates=rounds * workers, message=DGS_BYTES, cluster=cluster))
            applied = result.tables["updates"]["time_ns"][10 * workers :]
            rows.append((applied[-1] - applied[0]) / 1e9 / (len(applied) - 1) * workers - compute)
        seconds[bits] = np.array(rows)
    return Contention(efficiency, service, seconds)


def fitted_contention() -> Contention:
    """The two parameters with the least squares of logarithms over the ten figures."""

    def miss(logs: np.ndarray) -> float:
        found = contention(*map(float, np.exp(logs)))
        return sum(float((np.log(found.seconds[bits] / np.array(row)) ** 2).sum()) for bits, row in DGS_COMMUNICATION.items())

    best = minimize(miss, np.log([0.4, 0.08]), method="Nelder-Mead", options={"xatol": 0.005, "fatol": 1e-4, "maxiter": 60})
    return contention(*map(float, np.exp(best.x)), rounds=400)
