"""All-reduce among the workers in place of messages to a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncsim.simulation.transport.transport import UP
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.progress import WorkerProgress
    from asyncsim.simulation.worker import Worker
    from asyncsim.streams import Streams


def rounds_and_volume(kind: str, num_workers: int) -> tuple[int, float]:
    """Messages one after the other that an all-reduce of N workers takes, and how often each byte passes a link meanwhile.

    ring: 2 (N - 1) messages of 1/N of the bytes; tree: ceil(log2 N) of all bytes to the root and as many back.
    """
    if kind == "ring":
        return 2 * (num_workers - 1), 2 * (num_workers - 1) / num_workers
    rounds = 2 * (num_workers - 1).bit_length()
    return rounds, float(rounds)


class AllReduce:
    """What a worker sends is its part in an all-reduce; parameters are there when that is done, and travel no more.

    Latencies are those of the worker's uplink, drawn for every message; bytes pass at the slowest bandwidth of the fleet.
    A round ends when the last worker is through, so its length is that of the slowest computation and all-reduce. Workers that
    have left for good take no part.
    """

    def __init__(self, kind: str, workers: list[Worker], progress: WorkerProgress, streams: Streams) -> None:
        links = [link for each in workers for link in (each.profile.uplink, each.profile.downlink)]
        self._kind = kind
        self._progress = progress
        self._bandwidth = min((link.bandwidth for link in links if link.bandwidth), default=None)
        self._latencies = [each.profile.uplink.latency.draws(streams, "all-reduce", each.index) for each in workers]
        self.free = len(workers) == 1
        self._most = rounds_and_volume(kind, len(workers))[0]  # messages of a step

    def carry(self, worker: Worker, step: int, purpose: str, nbytes: float, partner: Worker | None = None) -> int | None:
        if purpose != UP or self.free:
            return None
        rounds, volume = rounds_and_volume(self._kind, self._progress.members)
        latency = self._latencies[worker.index].total(step * self._most, rounds)
        return nanoseconds(latency + (volume * nbytes / self._bandwidth if self._bandwidth else 0.0))
