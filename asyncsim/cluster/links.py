"""The parts of a worker's surroundings: links, the server, crashes."""

from __future__ import annotations

from typing import ClassVar

from pydantic import model_validator

from asyncsim.cluster.delays import LastingDelay, SteadyDelay
from asyncsim.cluster.distributions import Constant
from asyncsim.registry import Spec, located
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
    """One queue, first come, first served; ``service`` is the time to receive and apply one push."""

    service: SteadyDelay = Constant(mean=0.0)


class Faults(Spec):
    """A worker is ``up``, crashes, is ``down``, comes back, and so on. With neither given, it never crashes."""

    up: LastingDelay | None = None
    down: SteadyDelay | None = None

    @model_validator(mode="after")
    def _complete(self) -> Faults:
        if (self.up is None) != (self.down is None):
            missing = "up" if self.up is None else "down"
            raise located("faults", [((missing,), None, f"`{missing}` is missing; faults take both `up` and `down`")])
        return self
