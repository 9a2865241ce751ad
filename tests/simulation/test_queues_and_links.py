"""The server's queue against queueing theory, links to the nanosecond, and availability under crashes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from laws import check_all, log

import asyncsim
from asyncsim.units import nanoseconds


def batch_means(values: np.ndarray, batches: int = 20) -> tuple[float, float]:
    """Mean and its standard error from means of consecutive stretches, which are nearly independent."""
    means = np.array([part.mean() for part in np.array_split(values, batches)])
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(batches))


def waiting(result: asyncsim.Result) -> np.ndarray:
    """Seconds in the queue of every push, in order of service; 0 where it had not to wait."""
    spans = result.events.assign(length=result.events["end"] - result.events["start"]).set_index(["worker", "step"])
    served = spans.loc[spans["kind"] == "serve", "end_ns"].sort_values()
    return spans.loc[spans["kind"] == "queue", "length"].reindex(served.index).fillna(0.0).to_numpy()


def repairman(workers: int, compute: float, service: float) -> tuple[float, float]:
    """Throughput (pushes a second) and mean wait of N memoryless workers with one memoryless first-come-first-served server.

    ``P(k at the server) ~ N! / (N-k)! (service / compute)^k``; throughput ``X = (1 - P(0)) / service``; a round takes
    ``N / X = compute + wait + service`` (Little).
    """
    weights = [math.perm(workers, k) * (service / compute) ** k for k in range(workers + 1)]
    throughput = (1 - 1 / sum(weights)) / service
    return throughput, workers / throughput - compute - service


@pytest.mark.parametrize(("workers", "service"), [(1, 0.5), (5, 0.3), (12, 0.1)])
def test_the_closed_network_of_workers_and_server(make, workers, service):
    """Machine-repairman model (a closed Jackson network): throughput and waiting time, within 4 standard errors of batch means.

    Wrong model: a constant service time of the same mean, which queues less; a worker alone never waits.
    """
    throughput, wait = repairman(workers, 1.0, service)
    for kind, fits in (("exponential", True), ("constant", workers == 1)):
        cluster = {"server": {"service": {"kind": kind, "mean": service}}}
        result = asyncsim.plan(make(workers, {"kind": "exponential", "mean": 1.0}, updates=20_000, cluster=cluster))
        waited, error = batch_means(waiting(result))
        assert (abs(waited - wait) <= 4 * error + 1e-12) == fits
        between, error = batch_means(np.diff(result.updates["time"], prepend=0))
        assert (abs(between - 1 / throughput) < 4 * error) == fits


def test_many_rare_workers_make_an_open_queue(make):
    """3,000 workers that push every 5,000 s each, service 1 s: nearly Poisson arrivals at load rho = 0.6 (less the 0.05 % of the
    workers' time that goes into the round itself).

    M/D/1: mean wait ``rho / (2 (1 - rho))`` = 0.75 s; M/M/1 waits twice as long, so each refuses the other's service.
    """
    rho = 3000 / 5000
    waits = {"constant": rho / (2 * (1 - rho)), "exponential": rho / (1 - rho)}
    for kind, wait in waits.items():
        cluster = {"server": {"service": {"kind": kind, "mean": 1.0}}}
        result = asyncsim.plan(make(3000, {"kind": "exponential", "mean": 5000.0}, updates=20_000, cluster=cluster))
        waited, error = batch_means(waiting(result))
        assert abs(waited - wait) < 4 * error
        other = next(value for name, value in waits.items() if name != kind)
        assert abs(waited - other) > 4 * error


def test_the_queue_is_first_come_first_served(make):
    """Two workers, 1 s of compute, 1 s of service: both arrive at 1, worker 0 first. Then they take turns and nobody waits."""
    result = asyncsim.plan(make(2, "1s", updates=4, cluster={"server": {"service": "1s"}}))
    assert log(result, 99) == [
        ("compute", 0, 0, 1),
        ("compute", 1, 0, 1),
        ("serve", 0, 1, 2),
        ("queue", 1, 1, 2),
        ("serve", 1, 2, 3),
        ("compute", 0, 2, 3),
        ("compute", 1, 3, 4),
        ("serve", 0, 3, 4),
        ("serve", 1, 4, 5),
    ]
    assert result.updates["staleness"].tolist() == [0, 1, 1, 1]


# Links.


@pytest.mark.parametrize(("latency", "bandwidth", "nbytes"), [
    (0.003, 1e6, 4000.0), (0.0, 375e6, 12_345.0), (1 / 3, 1e9 / 7, 1e6 / 3), (0.25, None, 1e9),
])  # fmt: skip
def test_a_transfer_takes_latency_plus_size_over_bandwidth(make, latency, bandwidth, nbytes):
    """To the nanosecond, on both links, in every round: ``round((latency + bytes / bandwidth) 1e9)``."""
    link = {"latency": latency} | ({} if bandwidth is None else {"bandwidth": bandwidth})
    twice = {**link, "latency": 2 * latency}
    result = asyncsim.plan(make(3, "1s", updates=30, cluster={"uplink": link, "downlink": twice}, message=nbytes))
    sized = 0.0 if bandwidth is None else nbytes / bandwidth
    lengths = result.events.assign(length=result.events["end_ns"] - result.events["start_ns"])
    for kind, seconds in (("upload", latency + sized), ("download", 2 * latency + sized)):
        assert set(lengths.loc[lengths["kind"] == kind, "length"]) == {nanoseconds(seconds)}
    check_all(result)


def test_random_latencies_are_drawn_anew_for_each_message(make):
    """Exponential, mean 0.2 s, on both links: no two alike, means within 4 standard errors (mean / sqrt(n)), uplink and downlink
    uncorrelated (|r| < 4 / sqrt(n))."""
    link = {"latency": {"kind": "exponential", "mean": 0.2}}
    events = asyncsim.plan(make(2, "1s", updates=2000, cluster={"uplink": link, "downlink": link})).events
    events = events.assign(length=events["end"] - events["start"]).set_index(["worker", "step"])
    up, down = (events.loc[events["kind"] == kind, "length"] for kind in ("upload", "download"))
    for lengths in (up, down):
        assert lengths.is_unique
        assert lengths.mean() == pytest.approx(0.2, abs=4 * 0.2 / math.sqrt(len(lengths)))
    assert abs(np.corrcoef(up, down.loc[up.index])[0, 1]) < 4 / math.sqrt(len(up))


@pytest.mark.parametrize(("dtype", "width"), [("float32", 4), ("float64", 8)])
def test_the_message_is_the_parameters_by_default(make, dtype, width):
    """P parameters of 4 or 8 bytes at 1 byte a nanosecond take 4 P or 8 P ns, each way; other workers' links don't matter."""
    task = {"kind": "digits", "model": "softmax"}
    parameters = 64 * 10 + 10
    scenario = make(2, "1s", updates=4, task=task, dtype=dtype, cluster={"overrides": {1: {"uplink": {"bandwidth": "1GB/s"}}}})
    events = asyncsim.plan(scenario).events
    uploads = events[events["kind"] == "upload"]
    assert set(uploads["worker"]) == {1}
    assert set(uploads["end_ns"] - uploads["start_ns"]) == {width * parameters}
    assert "download" not in set(events["kind"])


# Availability.


@pytest.mark.parametrize(("up", "down"), [
    ({"kind": "exponential", "mean": 10.0}, {"kind": "exponential", "mean": 5.0}),
    ({"kind": "gamma", "mean": 10.0, "cv": 0.5}, {"kind": "constant", "mean": 5.0}),
], ids=["exponential", "gamma"])  # fmt: skip
def test_availability_of_a_renewal_process(make, up, down):
    """Long-run share of time up: ``E[up] / (E[up] + E[down])`` = 2/3, whatever the distributions.

    Standard error for n workers over time T (renewal theory): ``sqrt((E[up]^2 Var[down] + E[down]^2 Var[up]) /
    ((E[up] + E[down])^3 n T))``; the start (all up) adds less than a cycle's length / T = 0.015 / 2. Wrong model: down times
    twice as long have 1/2.
    """
    workers, seconds = 40, 1000

    def variance(delay: dict) -> float:
        return (delay["mean"] * {"exponential": 1.0, "constant": 0.0}.get(delay["kind"], delay.get("cv", 0.0))) ** 2

    def availability(down: dict) -> float:
        cluster = {"faults": {"up": up, "down": down}}
        result = asyncsim.plan(make(workers, "3s", cluster=cluster, run={"time": seconds}))
        check_all(result)
        spans = result.events[result.events["kind"] == "down"]
        return 1 - (spans["end"] - spans["start"]).sum() / (workers * seconds)

    error = math.sqrt((100 * variance(down) + 25 * variance(up)) / (15**3 * workers * seconds))
    bound = 4 * error + 0.0075
    assert availability(down) == pytest.approx(2 / 3, abs=bound)
    assert availability({**down, "mean": 10.0}) != pytest.approx(2 / 3, abs=bound)
    assert bound < 0.1


def test_constant_up_and_down_times(make):
    """Up for 7 s, down for 3: down at [7, 10], [17, 20], ...; 2 s rounds lose the one that a crash meets."""
    result = asyncsim.plan(make(1, "2s", cluster={"faults": {"up": "7s", "down": "3s"}}, run={"time": "100s"}))
    spans = result.events[result.events["kind"] == "down"]
    assert spans["start"].tolist() == [7 + 10 * k for k in range(9)]
    assert spans["end"].tolist() == [10 + 10 * k for k in range(9)]
    assert result.summary["crashes"] == 10
    assert result.summary["pushes"] == 30
