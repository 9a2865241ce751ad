"""The queue in front of a shard: first come, first served, one at a time."""

from __future__ import annotations

from asyncsim.cluster.delays import SteadyDelay
from asyncsim.streams import Draws, Streams
from asyncsim.units import nanoseconds


class Queue:
    """When a push that arrives now is served and done. Analytic: who comes later changes nothing for those before."""

    def __init__(self, service: SteadyDelay, streams: Streams, stage: int = 0) -> None:
        self._service = Draws(streams, "service", (stage,) if stage else (), service.sample)
        self._arrived = 0
        self._free_at = 0  # when all that is in the queue has been served
        self._work = 0  # that has arrived
        self._up_at = 0  # when the server that was down last is up again
        self.length = 0

    def join(self, now: int) -> tuple[int, int]:
        """A push arrives: when its service begins and ends (ns)."""
        begin = max(now, self._free_at)
        service = nanoseconds(self._service[self._arrived])
        self._free_at = begin + service
        self._work += service
        self._arrived += 1
        self.length += 1
        return begin, self._free_at

    def busy(self, now: int) -> int:
        """Nanoseconds of service until ``now``: what has arrived, but for what is left of it."""
        return self._work - max(0, self._free_at - max(now, self._up_at))

    def pause(self, now: int, until: int) -> None:
        """The server is down: what is left of the work goes on at ``until``."""
        self._free_at = until + max(0, self._free_at - now)
        self._up_at = until

    def waste(self, now: int) -> None:
        """A copy arrives, is received and thrown away."""
        self.join(now)
        self.leave()

    def leave(self) -> None:
        """The next one has been served."""
        self.length -= 1
