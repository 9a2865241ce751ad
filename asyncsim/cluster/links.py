"""The parts of a worker's surroundings: links and the server."""

from __future__ import annotations

from typing import ClassVar

from asyncsim.cluster.delays import SteadyDelay
from asyncsim.cluster.distributions import Constant
from asyncsim.cluster.prices import AnInstance
from asyncsim.registry import Spec
from asyncsim.units import BytesPerSecond


class Link(Spec):
    """One direction between a worker and the server. A bare value is the latency; without ``bandwidth``, size costs nothing."""

    shorthand: ClassVar[str | None] = "latency"
    latency: SteadyDelay = Constant(mean=0.0)
    bandwidth: BytesPerSecond | None = None

    def duration(self, latency_seconds: float, nbytes: float) -> float:
        """Virtual seconds that a message of ``nbytes`` takes, given its draw of the latency."""
        return latency_seconds + (nbytes / self.bandwidth if self.bandwidth else 0.0)


class Server(Spec):
    """One queue, first come, first served; ``service`` is the time to receive and apply one push; each host is an ``instance``.
    """

    service: SteadyDelay = Constant(mean=0.0)
    instance: AnInstance | None = None
