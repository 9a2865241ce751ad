"""The network between workers and server: shared pipes, the places of the workers, and loss of messages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from asyncsim.cluster.fields import Positive, WorkerCount
from asyncsim.registry import Problem, Registry, Spec
from asyncsim.streams import Streams
from asyncsim.units import Bytes, BytesPerSecond, Seconds


class Loss(Spec):
    """A message is lost with ``probability``; it is sent again ``timeout`` after the end of the lost try, until all of it has
    arrived.

    With ``packet``, a message is cut into packets of that size that are lost independently of each other, and each try sends
    the packets that are still missing: the number of tries is the largest of so many geometric numbers. Without it, a
    message is lost as a whole.
    """

    shorthand: ClassVar[str | None] = "probability"
    probability: float = Field(ge=0, lt=1)
    timeout: Seconds = 0.2
    packet: Bytes | None = Field(default=None, gt=0)

    def tries(self, streams: Streams, purpose: str, worker: int, step: int, nbytes: float) -> list[float]:
        """The number of bytes that each try sends; the last try is the one that completes the message."""
        rng = streams(f"loss of {purpose}", worker, step)
        if self.packet is None or nbytes <= self.packet:
            return [nbytes] * int(rng.geometric(1.0 - self.probability))
        sizes, missing = [nbytes], math.ceil(nbytes / self.packet)
        while missing := int(rng.binomial(missing, self.probability)):
            sizes.append(min(missing * self.packet, nbytes))
        return sizes


class Network(Spec):
    """What workers share on the way to the server and back.

    - ``ingress``, ``egress``: bytes per second into and out of one host of the server, shared by all messages under way.
    - ``discipline`` of every shared pipe: ``fair`` divides it among the messages under way (max-min fair; each also held to the
      bandwidth of its worker's link), ``fifo`` sends one message after the other, store and forward.
    - ``shards`` equal parts of the parameters lie in turn on ``hosts``, each with an ingress and an egress of its own; a message
      has arrived when its last part has.
    - With probability ``duplicate`` a push is sent twice. The server knows the copy by its worker and step, receives it (it takes
      the pipes, and a service), and throws it away.
    """

    ingress: BytesPerSecond | None = None
    egress: BytesPerSecond | None = None
    discipline: Literal["fair", "fifo"] = "fair"
    shards: int | None = Field(default=None, ge=1, le=100_000)
    hosts: int = Field(default=1, ge=1, le=10_000)
    loss: Loss | None = None
    duplicate: float = Field(default=0.0, ge=0, lt=1)

    def problems(self, num_workers: int) -> Iterator[Problem]:
        """The settings that do not fit a fleet of so many workers, each with its field and the reason."""
        if self.shards is not None and self.shards < self.hosts:
            yield ("shards",), self.shards, f"fewer shards than the {self.hosts} hosts; allowed is one a host or more"

    @property
    def host_shares(self) -> list[float]:
        """The share of the parameters that lies on each host; the shares add up to 1."""
        shards = self.shards or self.hosts
        return [(shards // self.hosts + (host < shards % self.hosts)) / shards for host in range(self.hosts)]

    def sites(self, num_workers: int) -> list[int]:
        """The index of the site (a rack or a region) of each worker."""
        return [0] * num_workers

    def crosses(self, site: int) -> bool:
        """Does a message between the server and this site use the shared pipes of the site?"""
        return False

    def pipe(self, bandwidths: Sequence[float | None]) -> float | None:
        """Bandwidth, in bytes per second, of each of the two shared pipes (out and in) of a site whose workers' links have
        ``bandwidths``; None means that nothing limits it."""
        return None

    def latency(self, site: int) -> float:
        """Seconds that a message takes between the site and the server, in addition to the latency of the worker's link."""
        return 0.0

    def distance(self, one: int, other: int) -> float | None:
        """Seconds that a message takes from one site to another; None where that is not known."""
        return 0.0

    def bandwidth(self, streams: Streams, worker: int) -> float | None:
        """Bandwidth, in bytes per second, of those links of a worker for which the scenario gives none."""
        return None


networks: Registry[Network] = Registry("network")


@networks.register("flat")
class Flat(Network):
    """All workers are equally near to the server."""


def _counts(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | list | tuple):
        raise ValueError("must be a number of racks, or a list with the number of workers in each")
    return value if isinstance(value, int) else tuple(value)


Counts = Annotated[
    int | tuple[WorkerCount, ...], BeforeValidator(_counts),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "integer", "minimum": 1}}]}),
]  # fmt: skip


@networks.register("rack")
class Rack(Network):
    """Workers stand in racks; what leaves or enters a rack shares its uplink, in each direction.

    ``racks``: how many of (nearly) equal size, or the number of workers in each; indices are consecutive. ``uplink`` is the
    bandwidth of a rack's pipe; or ``oversubscription`` says how many times more its workers' links carry together. ``server``:
    the rack in which the server stands, whose workers do not use their uplink; absent: it stands apart. ``hop`` is the
    latency between racks.
    """

    racks: Counts = 2
    uplink: BytesPerSecond | None = None
    oversubscription: Positive | None = None
    server: int | None = Field(default=None, ge=0)
    hop: Seconds = 0.0

    def problems(self, num_workers: int) -> Iterator[Problem]:
        yield from super().problems(num_workers)
        count = self.racks if isinstance(self.racks, int) else len(self.racks)
        if not 1 <= count <= num_workers:
            yield ("racks",), self.racks, f"allowed are 1 to {num_workers} racks, each with a worker or more"
        elif not isinstance(self.racks, int) and sum(self.racks) != num_workers:
            yield ("racks",), list(self.racks), f"holds {sum(self.racks)} workers, and the fleet has {num_workers}"
        if self.server is not None and self.server >= count:
            yield ("server",), self.server, f"there is no such rack; allowed are 0 to {count - 1}, or nothing"
        if self.uplink is not None and self.oversubscription is not None:
            yield ("oversubscription",), self.oversubscription, "give `uplink` or `oversubscription`, not both"

    def sites(self, num_workers: int) -> list[int]:
        return blocks(self.racks, num_workers)

    def crosses(self, site: int) -> bool:
        return site != self.server

    def pipe(self, bandwidths: Sequence[float | None]) -> float | None:
        if self.oversubscription is None:
            return self.uplink
        return sum(bandwidth or 0.0 for bandwidth in bandwidths) / self.oversubscription

    def latency(self, site: int) -> float:
        return self.hop if self.crosses(site) else 0.0

    def distance(self, one: int, other: int) -> float | None:
        return self.hop if one != other else 0.0


def blocks(counts: int | Sequence[int], num_workers: int) -> list[int]:
    """The site of each worker, where sites are filled one after the other."""
    if isinstance(counts, int):
        counts = [num_workers // counts + (site < num_workers % counts) for site in range(counts)]
    return [site for site, count in enumerate(counts) for _ in range(count)]
