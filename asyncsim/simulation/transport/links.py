"""Links of a worker's own: nobody else's messages hold up what passes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from asyncsim.cluster import Link, WorkerProfile
from asyncsim.simulation.transport.transport import ACTIVATION, ANSWER, DOWN, ERROR, PEER, UP
from asyncsim.streams import StepValues, Streams
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.worker import Costs, Worker


class Way(NamedTuple):
    """A link with the latencies of the messages for one purpose."""

    link: Link
    latencies: StepValues
    at_once: bool  # the latency is always 0


class Links:
    """A message takes a latency, and its bytes at the link's bandwidth.

    Between two workers it passes the uplink of who sends it and the downlink of who receives it: at the smaller bandwidth of the
    two, with a latency of the uplink (an answer: of the downlink) of the worker whose exchange it is.
    """

    def __init__(self, workers: list[Worker], streams: Streams, costs: Costs) -> None:
        self._ways: dict[tuple[int, str], Way] = {}
        for worker in workers:
            for purpose, link in links(worker, costs):
                at_once = link.latency.for_worker(streams, worker.index).expected == 0
                if not at_once or link.bandwidth:
                    self._ways[worker.index, purpose] = Way(link, link.latency.draws(streams, purpose, worker.index), at_once)
        if costs.exchange_bytes is not None and not all(_free(worker.profile, streams) for worker in workers):
            for worker in workers:
                for purpose, link in ((PEER, worker.profile.uplink), (ANSWER, worker.profile.downlink)):
                    self._ways[worker.index, purpose] = Way(link, link.latency.draws(streams, purpose, worker.index), False)

        self.free = not self._ways

    def carry(self, worker: Worker, step: int, purpose: str, nbytes: float, partner: Worker | None = None) -> int | None:
        way = self._ways.get((worker.index, purpose))
        if way is None or (way.at_once and not nbytes):
            return None
        seconds = way.link.duration(way.latencies[step], nbytes)
        if partner is not None:
            far = partner.profile.downlink if purpose == PEER else partner.profile.uplink
            seconds = max(seconds, far.duration(way.latencies[step], nbytes))
        return nanoseconds(seconds)


def _free(profile: WorkerProfile, streams: Streams) -> bool:
    """Do messages over the links of a worker take no time?"""
    links = profile.uplink, profile.downlink
    return all(not each.bandwidth and each.latency.for_worker(streams, profile.worker).expected == 0 for each in links)


def links(worker: Worker, costs: Costs) -> Iterator[tuple[str, Link]]:
    """Which links a worker sends and receives over, by purpose."""
    stage, profile = worker.stage, worker.profile
    if costs.push_bytes[stage] is not None and costs.message_bytes[stage] is not None:  # else its shard lies on the worker itself
        yield UP, profile.uplink
        yield DOWN, profile.downlink
    between = costs.link or profile.uplink
    if stage < len(costs.shares) - 1:
        yield ACTIVATION, between
    if stage > 0:
        yield ERROR, between
