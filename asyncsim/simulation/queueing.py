"""The queue in front of a shard: first come, first served, one push at a time."""

from __future__ import annotations

from asyncsim.cluster.delays import SteadyDelay
from asyncsim.streams import Draws, Streams
from asyncsim.units import nanoseconds


class Queue:
    """Computes when a push that arrives now is served. No process is needed, since later arrivals change nothing for earlier
    ones."""

    def __init__(self, service: SteadyDelay, streams: Streams, stage: int = 0) -> None:
        self._service = Draws(streams, "service", (stage,) if stage else (), service.sample)
        self._arrived = 0
        self._free_at = 0  # when all that is in the queue has been served
        self._work = 0  # all service time of what has arrived
        self._up_at = 0  # when the server that was down last is up again
        self.length = 0

    def join(self, now: int) -> tuple[int, int]:
        """Add a push that arrives now. Returns when its service begins and ends (ns)."""
        begin = max(now, self._free_at)
        service = nanoseconds(self._service[self._arrived])
        self._free_at = begin + service
        self._work += service
        self._arrived += 1
        self.length += 1
        return begin, self._free_at

    def busy(self, now: int) -> int:
        """Nanoseconds of service done until ``now``: all that has arrived, minus what is left of it."""
        return self._work - max(0, self._free_at - max(now, self._up_at))

    def pause(self, now: int, until: int) -> None:
        """Interrupt the service because the server is down; what is left of the work goes on at ``until``."""
        self._free_at = until + max(0, self._free_at - now)
        self._up_at = until

    def waste(self, now: int) -> None:
        """Serve a duplicate, which is received and thrown away."""
        self.join(now)
        self.leave()

    def leave(self) -> None:
        """Remove the next push, which has been served."""
        self.length -= 1
