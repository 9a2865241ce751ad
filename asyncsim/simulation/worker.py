"""One worker: its machine, its links, and what it is doing right now."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from asyncsim.cluster import Link, WorkerProfile
from asyncsim.streams import Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from simpy.events import Event, Process

    from asyncsim.engine.futures import Future

IDLE = -1


class Worker:
    """Durations come from the worker's own streams, addressed by what they are for and the step.

    ``activity`` (index into ``EVENT_KINDS``, or ``IDLE``) and ``since`` say what it does and from when, so that an
    interrupt can record the part that was done.
    """

    __slots__ = (
        "activity",
        "down_until",
        "download",
        "gone",
        "index",
        "process",
        "profile",
        "serve_from",
        "served",
        "since",
        "speed",
        "step",
        "times",
        "up",
        "upload",
        "version",
        "work",
    )  # fmt: skip

    def __init__(self, profile: WorkerProfile, streams: Streams, message_bytes: float) -> None:
        self.index = profile.index
        self.profile = profile
        self.times = profile.compute.draws(streams, "compute", profile.index)
        self.speed = profile.speed(streams)
        self.upload = transfer(profile.uplink, streams, "uplink", profile.index, message_bytes)
        self.download = transfer(profile.downlink, streams, "downlink", profile.index, message_bytes)
        self.step = 0
        self.activity = IDLE
        self.since = 0
        self.version = -1
        self.down_until = 0
        self.up = True
        self.gone = False
        self.served: Event | None = None  # of its push that the server has not applied yet
        self.serve_from = 0  # when the server turns to that push
        self.work: Future | None = None  # computed on, and not yet delivered
        self.process: Process | None = None

    def finish(self, now: int, batches: int) -> int:
        """When the work of this step, begun now, is done: ``batches`` compute times at the machine's speed, 1 ns at least."""
        first = self.step * batches
        seconds = self.times[first] if batches == 1 else self.times.total(first, batches)
        return max(now + 1, self.speed.finish(now, seconds))


def transfer(link: Link, streams: Streams, purpose: str, worker: int, nbytes: float) -> Callable[[int], int] | None:
    """``step -> nanoseconds`` that a message takes over the link; None where it takes no time at all."""
    bound = link.latency.for_worker(streams, worker)
    if bound.expected == 0 and link.duration(0.0, nbytes) == 0:
        return None
    draws = link.latency.draws(streams, purpose, worker)
    return lambda step: nanoseconds(link.duration(draws[step], nbytes))
