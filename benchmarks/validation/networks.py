"""Messages that share a pipe, and all-reduce."""

from __future__ import annotations

from validation.laws import Law, between_updates, scenario, spans
from validation.queues import FEW, KNOWN, MANY, RHO, SHORT

MEGABYTE = 1e6
LATENCY, BANDWIDTH, RING = 0.001, 1e8, 8


def shared(workers, compute, seconds, discipline="fair"):
    """Pushes of constant size pass one ingress, which takes so many seconds for one that is alone; reads take no time."""
    network = {"kind": "flat", "ingress": MEGABYTE / seconds, "discipline": discipline}
    times = {"kind": "exponential", "mean": compute}
    return lambda pushes: scenario(
        workers, times, updates=pushes, message=0.0, push=MEGABYTE, cluster={"network": network}
    )


def reduced(kind):
    """Rounds of 1 s of computation and an all-reduce of 24 MB among 8 workers: 1 ms and 100 MB/s a link."""
    cluster = {"all_reduce": kind, "uplink": {"latency": LATENCY, "bandwidth": BANDWIDTH}, "downlink": {"bandwidth": BANDWIDTH}}
    return lambda pushes: scenario(RING, "1s", "bsp", updates=pushes // RING, message=24 * MEGABYTE, cluster=cluster)


def transfers(result):
    """Seconds that each push took from the worker to the server."""
    found = spans(result, "upload")
    return (found["end_ns"] - found["start_ns"]) / 1e9


ONE = 24 * MEGABYTE / BANDWIDTH
LAWS = (
    Law("M/G/1 processor sharing (a fair ingress, constant sizes): mean transfer", "s / (1 - rho)", 1 / (1 - RHO),
        shared(MANY, MANY / RHO - 1.0, 1.0), transfers, "first come, first served", shared(MANY, MANY / RHO - 1.0, 1.0, "fifo")),
    Law("closed processor sharing (12 workers, constant sizes): mean transfer", "N / X - 1, X of the machine repairman",
        KNOWN["wait"] + SHORT, shared(FEW, 1.0, SHORT), transfers, "first come, first served", shared(FEW, 1.0, SHORT, "fifo")),
    Law("ring all-reduce of 8 workers: a round", "1 + 2 (N - 1) latency + 2 (N - 1) / N bytes / bandwidth",
        1 + 14 * LATENCY + 14 / 8 * ONE, reduced("ring"), between_updates, "tree", reduced("tree")),
    Law("tree all-reduce of 8 workers: a round", "1 + 2 log2(N) (latency + bytes / bandwidth)", 1 + 6 * (LATENCY + ONE),
        reduced("tree"), between_updates, "ring", reduced("ring")),
)  # fmt: skip
