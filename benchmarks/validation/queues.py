"""The server's queue. Three thousand rare workers make an open queue, a dozen busy ones a closed network."""

from __future__ import annotations

import math

import numpy as np

from validation.laws import Law, at_server, at_work, between_pushes, scenario, waits

RHO = 0.6
MANY = 3000
SERVICE = {
    "M/M/1": {"kind": "exponential", "mean": 1.0},
    "M/D/1": {"kind": "constant", "mean": 1.0},
    "M/G/1": {"kind": "lognormal", "mean": 1.0, "cv": 1.5},
}
FEW, SHORT = 12, 0.1


def opened(kind):
    """Arrivals that are Poisson but for a part in thousands: each worker pushes every 5,000 s, a service takes 1 s."""
    compute = {"kind": "exponential", "mean": MANY / RHO - 1.0}
    return lambda pushes: scenario(MANY, compute, updates=pushes, cluster={"server": {"service": SERVICE[kind]}})


def closed(service="exponential", compute=None, workers=FEW):
    """Compute times of mean 1, service of mean 0.1."""
    compute = compute or {"kind": "exponential", "mean": 1.0}
    cluster = {"server": {"service": {"kind": service, "mean": SHORT}}}
    return lambda pushes: scenario(workers, compute, updates=pushes, cluster=cluster)


def repairman(workers: int = FEW, service: float = SHORT) -> dict[str, float]:
    """Machine repairman, compute times of mean 1: ``P(k at the server) ~ N! / (N-k)! service^k``."""
    weights = np.array([math.perm(workers, k) * service**k for k in range(workers + 1)])
    chances = weights / weights.sum()
    throughput = (1 - chances[0]) / service
    return {
        "throughput": throughput, "busy": 1 - chances[0], "number": float(chances @ np.arange(workers + 1)),
        "wait": workers / throughput - 1 - service, "idle": chances[0],
    }  # fmt: skip


def pollaczek_khinchine(square: float) -> float:
    """Mean wait of M/G/1 with service of mean 1 and mean square ``square``."""
    return RHO * square / (2 * (1 - RHO))


KNOWN = repairman()
LATE = 2.0
LAWS = (
    Law("M/M/1: mean wait", "rho / (1 - rho)", RHO / (1 - RHO), opened("M/M/1"), waits,
        "constant service", opened("M/D/1")),
    Law("M/M/1: share of pushes that wait longer than 2 services", "rho exp(-2 (1 - rho))", RHO * math.exp(-LATE * (1 - RHO)),
        opened("M/M/1"), lambda result: (waits(result) > LATE).astype(float), "constant service", opened("M/D/1")),
    Law("M/M/1: number at the server, over time", "rho / (1 - rho)", RHO / (1 - RHO), opened("M/M/1"), at_server,
        "constant service", opened("M/D/1")),
    Law("M/D/1: mean wait", "rho / (2 (1 - rho))", pollaczek_khinchine(1.0), opened("M/D/1"), waits,
        "the formula of M/M/1", RHO / (1 - RHO)),
    Law("M/G/1: mean wait (Pollaczek-Khinchine), lognormal service of CV 1.5", "lambda E[S^2] / (2 (1 - rho))",
        pollaczek_khinchine(1 + 1.5**2), opened("M/G/1"), waits, "the formula of M/M/1", RHO / (1 - RHO)),
    Law("M/G/1: utilisation of the server", "rho", RHO, opened("M/G/1"), lambda result: at_work(result, "serve"),
        "rho of 10 % fewer workers", 0.9 * RHO),
    Law("machine repairman (12 workers): time between pushes", "1 / X, X = (1 - P(0)) / s", 1 / KNOWN["throughput"], closed(),
        between_pushes, "constant service", closed("constant")),
    Law("machine repairman: utilisation of the server", "1 - P(0)", KNOWN["busy"], closed(),
        lambda result: at_work(result, "serve"), "open queue, N s / (1 + s)", FEW * SHORT / (1 + SHORT)),
    Law("machine repairman: number at the server, over time", "sum k P(k)", KNOWN["number"], closed(), at_server,
        "constant service", closed("constant")),
    Law("machine repairman: mean wait", "N / X - 1 - s", KNOWN["wait"], closed(), waits, "constant service", closed("constant")),
    Law("machine repairman: pushes that find the server idle (arrival theorem)", "P(0) with N - 1 workers",
        repairman(FEW - 1)["idle"], closed(), lambda result: (waits(result) == 0).astype(float), "P(0) with N", KNOWN["idle"]),
    Law("machine repairman: the distribution of compute times does not matter (gamma, CV 0.5)", "N / X - 1 - s", KNOWN["wait"],
        closed(compute={"kind": "gamma", "mean": 1.0, "cv": 0.5}), waits, "11 workers", closed(workers=FEW - 1)),
)  # fmt: skip
