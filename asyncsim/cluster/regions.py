"""Networks over regions, and presets that name published numbers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from asyncsim.cluster.fields import WorkerCount
from asyncsim.cluster.network import Network, blocks, networks
from asyncsim.errors import nearest
from asyncsim.registry import Problem
from asyncsim.streams import Streams
from asyncsim.units import BytesPerSecond, Seconds


def _regions(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, list | tuple) or not value or not all(isinstance(name, str) for name in value):
        raise ValueError("must map each region to its number of workers, or list the regions")
    return tuple(value)


Regions = Annotated[
    dict[str, WorkerCount] | tuple[str, ...], BeforeValidator(_regions),
    WithJsonSchema({"anyOf": [{"type": "object", "additionalProperties": {"type": "integer", "minimum": 1}},
                              {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
]  # fmt: skip


class Regional(Network):
    """A network whose workers are spread over regions, far from the server. A region's ``uplink`` is a pipe in each direction
    that all its workers share."""

    regions: Regions
    server: str
    uplink: BytesPerSecond | None = None

    @abstractmethod
    def round_trip(self, one: str, other: str) -> float | None:
        """Seconds from one region to a different one and back; None where that is not known."""

    def problems(self, num_workers: int) -> Iterator[Problem]:
        yield from super().problems(num_workers)
        if isinstance(self.regions, dict):
            total = sum(self.regions.values())
            if total != num_workers:
                yield ("regions",), dict(self.regions), f"hold {total} workers, and the fleet has {num_workers}"
        for name in self.regions:
            if name != self.server and self.round_trip(name, self.server) is None:
                yield ("regions",), name, f"no round-trip time is known between {name} and the server's region {self.server}"

    def sites(self, num_workers: int) -> list[int]:
        """The region of each worker: consecutive workers where their numbers are given, otherwise workers are dealt to the
        regions in turn."""
        if isinstance(self.regions, dict):
            return blocks(list(self.regions.values()), num_workers)
        return [worker % len(self.regions) for worker in range(num_workers)]

    def crosses(self, site: int) -> bool:
        return list(self.regions)[site] != self.server

    def pipe(self, bandwidths: Any) -> float | None:
        return self.uplink

    def latency(self, site: int) -> float:
        name = list(self.regions)[site]
        return self._between(name, self.server) or 0.0

    def distance(self, one: int, other: int) -> float | None:
        names = list(self.regions)
        return self._between(names[one], names[other])

    def _between(self, one: str, other: str) -> float | None:
        if one == other:
            return 0.0
        there_and_back = self.round_trip(one, other)
        return None if there_and_back is None else there_and_back / 2


@networks.register("region")
class Region(Regional):
    """Regions with a matrix of round-trip times between them.

    A message takes half of ``rtt[one][other]``; one of the two orders is enough. ``regions`` maps each region to its number
    of workers, whose indices are consecutive; or it lists the regions, and workers are dealt to them in turn.
    """

    rtt: dict[str, dict[str, Seconds]]

    def round_trip(self, one: str, other: str) -> float | None:
        return self.rtt.get(one, {}).get(other, self.rtt.get(other, {}).get(one))

    def problems(self, num_workers: int) -> Iterator[Problem]:
        yield from super().problems(num_workers)
        for one, row in self.rtt.items():
            for other, seconds in row.items():
                if self.rtt.get(other, {}).get(one, seconds) != seconds:
                    yield ("rtt", one, other), seconds, f"differs from the round trip {other} to {one}; give one of the two"


AWS_2017 = {
    ("us-east-1", "us-west-2"): 0.088, ("us-east-1", "eu-west-1"): 0.0805, ("us-east-1", "eu-central-1"): 0.0886,
    ("us-east-1", "ap-northeast-1"): 0.145, ("us-east-1", "ap-southeast-1"): 0.217, ("us-east-1", "ap-southeast-2"): 0.230,
    ("us-east-1", "sa-east-1"): 0.120, ("eu-central-1", "eu-west-1"): 0.0196,
}  # fmt: skip
"""Round-trip times in seconds, public measurements between Amazon regions of 2017; other pairs are not known."""
AWS_NAMES = tuple(dict.fromkeys(name for pair in AWS_2017 for name in pair))


@networks.register("aws_2017_regions")
class Aws2017Regions(Regional):
    """Round-trip times between Amazon regions as of 2017, from us-east-1 in Virginia to us-west-2 88 ms, eu-west-1 80.5,
    eu-central-1 88.6, Tokyo (ap-northeast-1) 145, Singapore (ap-southeast-1) 217, Sydney (ap-southeast-2) 230, Sao Paulo
    (sa-east-1) 120; eu-west-1 to eu-central-1 19.6. Public table; it has aged. By default workers are dealt to all eight."""

    regions: Regions = AWS_NAMES
    server: str = "us-east-1"

    def round_trip(self, one: str, other: str) -> float | None:
        return AWS_2017.get((one, other), AWS_2017.get((other, one)))

    def problems(self, num_workers: int) -> Iterator[Problem]:
        unknown = [name for name in (*self.regions, self.server) if name not in AWS_NAMES]
        for name in dict.fromkeys(unknown):
            message = f"no such region here{nearest(name, AWS_NAMES)}; allowed are {', '.join(AWS_NAMES)}"
            yield ("server" if name == self.server else "regions",), name, message
        if not unknown:
            yield from super().problems(num_workers)


@networks.register("cluster_100MBps")
class Cluster100MBps(Network):
    """Machines in one room: 100 MB/s a link, 20 microseconds a message; the example of the simulator FedDES."""

    def latency(self, site: int) -> float:
        return 20e-6

    def bandwidth(self, streams: Streams, worker: int) -> float | None:
        return 100e6


@networks.register("afl_wireless")
class AflWireless(Network):
    """Wireless devices: a worker's bandwidth, of both its links, is drawn once, uniform between 150 and 600 Mbit/s (``wifi``), 20
    and 100 (``4g``), 50 and 1000 (``5g``). Source: github.com/boyi-liu/AFL-Lib."""

    MBIT: ClassVar[dict[str, tuple[float, float]]] = {"wifi": (150, 600), "4g": (20, 100), "5g": (50, 1000)}
    radio: Literal["wifi", "4g", "5g"] = Field(default="wifi")

    def bandwidth(self, streams: Streams, worker: int) -> float | None:
        return float(streams("radio", worker).uniform(*self.MBIT[self.radio])) * 1e6 / 8
