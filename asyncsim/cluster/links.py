"""What surrounds a worker: its links, and the server."""

from __future__ import annotations

from fractions import Fraction
from typing import ClassVar

from pydantic import model_validator

from asyncsim.cluster.delays import LastingDelay, SteadyDelay
from asyncsim.cluster.distributions import Constant
from asyncsim.cluster.prices import AnInstance
from asyncsim.registry import Spec, located
from asyncsim.units import BytesPerSecond, PositiveSeconds


class Link(Spec):
    """One direction between a worker and the server. A bare value is the latency. Without ``bandwidth``, the size of a message
    costs no time."""

    shorthand: ClassVar[str | None] = "latency"
    latency: SteadyDelay = Constant(mean=0.0)
    bandwidth: BytesPerSecond | None = None

    def duration(self, latency_seconds: float | Fraction, nbytes: float) -> float:
        """Virtual seconds that a message of ``nbytes`` takes, given its draw of the latency."""
        return latency_seconds + (nbytes / self.bandwidth if self.bandwidth else 0.0)


class ServerFaults(Spec):
    """The server is up for a time drawn from ``up``, crashes, is down for a time drawn from ``down``, comes back, and so on."""

    up: LastingDelay
    down: SteadyDelay


class ServerSpec(Spec):
    """The server's machine. Pushes wait in one queue, first come, first served; receiving and applying one takes ``service``.

    Each host of the server is an ``instance``. With ``faults`` the server crashes, and goes back to what it saved last; it
    saves itself every ``checkpoint`` of virtual time.
    """

    service: SteadyDelay = Constant(mean=0.0)
    faults: ServerFaults | None = None
    checkpoint: PositiveSeconds | None = None
    instance: AnInstance | None = None

    @model_validator(mode="after")
    def _complete(self) -> ServerSpec:
        if self.faults is not None and self.checkpoint is None:
            message = "is missing; a server with `faults` needs how often it saves itself, such as 10min"
            raise located("server", [(("checkpoint",), None, message)])
        if self.faults is None and self.checkpoint is not None:
            message = "a server without `faults` never goes back to what it saved; leave it out, or give `faults`"
            raise located("server", [(("checkpoint",), self.checkpoint, message)])
        return self
