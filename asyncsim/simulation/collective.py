"""All-reduce among the workers in place of messages to a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.progress import WorkerProgress
    from asyncsim.simulation.worker import Worker
    from asyncsim.streams import Streams


def rounds_and_volume(kind: str, num_workers: int) -> tuple[int, float]:
    """The number of successive messages in an all-reduce of N workers, and how many times each byte passes a link meanwhile.

    ring: 2 (N - 1) messages of 1/N of the bytes; tree: ceil(log2 N) messages of all bytes to the root, and as many back.
    """
    if kind == "ring":
        return 2 * (num_workers - 1), 2 * (num_workers - 1) / num_workers
    rounds = 2 * (num_workers - 1).bit_length()
    return rounds, float(rounds)


def exchange(kind: str, workers: list[Worker], progress: WorkerProgress, streams: Streams, nbytes: float) -> None:
    """Replace the messages from and to the server by an all-reduce among the workers."""
    for worker in workers:
        worker.upload = all_reduce(kind, worker, workers, progress, streams, nbytes)
        worker.download = None


def all_reduce(
    kind: str, worker: Worker, workers: list[Worker], progress: WorkerProgress, streams: Streams, nbytes: float
) -> Callable[[int], int] | None:
    """A function ``step -> nanoseconds``: the time from the end of the worker's computation until it has the result; None if no
    time passes.

    Latencies are those of the worker's uplink, drawn for every message; bytes pass at the slowest bandwidth of the fleet. A
    round ends when the last worker has the result, so its length is that of the slowest computation and all-reduce. Workers
    that have left for good take no part.
    """
    if len(workers) == 1:
        return None
    links = [link for each in workers for link in (each.profile.uplink, each.profile.downlink)]
    bandwidth = min((link.bandwidth for link in links if link.bandwidth), default=None)
    draws = worker.profile.uplink.latency.draws(streams, "all-reduce", worker.index)
    most = rounds_and_volume(kind, len(workers))[0]

    def duration(step: int) -> int:
        rounds, volume = rounds_and_volume(kind, progress.members)
        return nanoseconds(draws.total(step * most, rounds) + (volume * nbytes / bandwidth if bandwidth else 0.0))

    return duration
