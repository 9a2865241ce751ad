"""Messages between workers and server over shared pipes: who uses which, what is lost, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import simpy

from asyncsim.cluster import Cluster, Link
from asyncsim.simulation.transport.links import links
from asyncsim.simulation.transport.pipes import Fair, Fifo, Flow, rate, work
from asyncsim.simulation.transport.transport import ACTIVATION, DOWN, PEER, UP
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.clock import Clock
    from asyncsim.simulation.worker import Costs, Worker
    from asyncsim.streams import Streams


class Part(NamedTuple):
    """The part of a message that goes to one host: its share of the message, the pipes it passes, and the rate ``cap`` (units a
    nanosecond) to which it is held."""

    share: float
    pipes: tuple[int, ...]
    cap: int | None


class Route(NamedTuple):
    """The way of a message in one direction: between a worker and the server, or from one stage to the next."""

    latency: Callable[[int], int]  # of a step, in nanoseconds
    parts: tuple[Part, ...]


class SharedPipes:
    """Every message waits its latency, then its parts pass their pipes side by side; a try that gets lost is made again."""

    def __init__(
        self, env: Clock, cluster: Cluster, workers: list[Worker], streams: Streams, costs: Costs,
        receive_copy: Callable[[Worker], None],
    ) -> None:  # fmt: skip
        assert cluster.network is not None
        self.free = False
        self.env = env
        self.spec = spec = cluster.network
        self.streams = streams
        self._receive_copy = receive_copy  # of a push
        self.resent = 0  # tries that were lost
        self.duplicates = 0  # copies received
        self._sites = spec.sites(len(workers))
        capacities: list[int] = []

        def pipe(bandwidth: float | None) -> tuple[int, ...]:
            if not bandwidth:
                return ()
            capacities.append(rate(bandwidth))
            return (len(capacities) - 1,)

        ingress, egress = ([pipe(each) for _ in spec.host_shares] for each in (spec.ingress, spec.egress))
        self._out, self._back = self._site_pipes(workers, pipe)
        self.pipes = (Fair if spec.discipline == "fair" else Fifo)(env, capacities)
        self._routes: dict[tuple[int, str], Route] = {}
        self._partners: dict[tuple[int, int, str], Route] = {}
        for worker in workers:
            site = self._sites[worker.index]
            out, back = (self._out[site], self._back[site]) if spec.crosses(site) else ((), ())
            ways = {UP: [out + host for host in ingress], DOWN: [host + back for host in egress]}
            for purpose, link in links(worker, costs):
                if purpose in ways:
                    route = self._to_server(worker, purpose, link, ways[purpose])
                else:
                    route = self._between(worker, purpose, link)
                self._routes[worker.index, purpose] = route

    def carry(
        self, worker: Worker, step: int, purpose: str, nbytes: float, partner: Worker | None = None,
    ) -> Generator[Any, Any, None] | None:  # fmt: skip
        route = self._routes.get((worker.index, purpose)) if partner is None else self._to_partner(worker, partner, purpose)
        return None if route is None else self._carry(route, worker, step, purpose, nbytes)

    def _carry(self, route: Route, worker: Worker, step: int, purpose: str, nbytes: float) -> Generator[Any, Any, None]:
        loss, tries = self.spec.loss, [nbytes]
        if loss is not None:
            tries = loss.tries(self.streams, purpose, worker.index, step, nbytes)
        latency, last = route.latency(step), len(tries) - 1
        for index, size in enumerate(tries):
            if latency:
                yield self.env.timeout(latency)
            yield from self._pass(route.parts, size)
            if loss is not None and index < last:
                self.resent += 1
                yield self.env.timeout(nanoseconds(loss.timeout))
        chance = self.spec.duplicate
        if chance and purpose == UP and self.streams("duplicate", worker.index, step).random() < chance:
            self.env.process(self._copy(worker, route, nbytes))

    def _copy(self, worker: Worker, route: Route, nbytes: float) -> Generator[Any, Any, None]:
        yield from self._pass(route.parts, nbytes)
        self.duplicates += 1
        self._receive_copy(worker)

    def _pass(self, parts: tuple[Part, ...], nbytes: float) -> Generator[Any, Any, None]:
        if not nbytes:
            return
        flows: list[Flow] = [self.pipes.begin(part.pipes, part.cap, work(nbytes * part.share)) for part in parts]
        try:
            for flow in flows:
                yield flow.done
        except simpy.Interrupt:
            for flow in flows:
                self.pipes.abort(flow)
            raise

    def _to_server(self, worker: Worker, purpose: str, link: Link, hosts: list[tuple[int, ...]]) -> Route:
        """A part to each host, but for those that nothing holds up."""
        bandwidth = link.bandwidth or self.spec.bandwidth(self.streams, worker.index)
        parts = [
            Part(share, pipes, None if bandwidth is None else rate(bandwidth * share))
            for share, pipes in zip(self.spec.host_shares, hosts, strict=True)
            if pipes or bandwidth is not None
        ]
        return self._route(worker, purpose, link, self.spec.latency(self._sites[worker.index]), parts)

    def _between(self, worker: Worker, purpose: str, link: Link) -> Route:
        """To the stage above or below, through the pipes of both sites if they are two."""
        one, end = self._sites[worker.index], self._sites[worker.index + (1 if purpose == ACTIVATION else -1)]
        bandwidth = link.bandwidth or self.spec.bandwidth(self.streams, worker.index)
        pipes = () if one == end else self._out[one] + self._back[end]
        parts = [Part(1.0, pipes, None if bandwidth is None else rate(bandwidth))] if pipes or bandwidth else []
        return self._route(worker, purpose, link, self.spec.distance(one, end) or 0.0, parts)

    def _to_partner(self, worker: Worker, partner: Worker, purpose: str) -> Route:
        """Between two workers, through the pipes of both sites if they are two: a message, or the answer to it."""
        found = self._partners.get((worker.index, partner.index, purpose))
        if found is None:
            sender, receiver = (worker, partner) if purpose == PEER else (partner, worker)
            one, end = self._sites[sender.index], self._sites[receiver.index]
            ends = sender.profile.uplink.bandwidth, receiver.profile.downlink.bandwidth
            own = [self.spec.bandwidth(self.streams, each.index) for each in (sender, receiver)]
            limits = [given or other for given, other in zip(ends, own, strict=True)]
            bandwidth = min((each for each in limits if each), default=None)
            pipes = () if one == end else self._out[one] + self._back[end]
            parts = [Part(1.0, pipes, None if bandwidth is None else rate(bandwidth))] if pipes or bandwidth else []
            link = worker.profile.uplink if purpose == PEER else worker.profile.downlink
            found = self._route(worker, purpose, link, self.spec.distance(one, end) or 0.0, parts)
            self._partners[worker.index, partner.index, purpose] = found
        return found

    def _route(self, worker: Worker, purpose: str, link: Link, distance: float, parts: list[Part]) -> Route:
        draws = link.latency.draws(self.streams, purpose, worker.index)
        return Route(lambda step: nanoseconds(draws[step] + distance), tuple(parts))

    def _site_pipes(
        self, workers: list[Worker], pipe: Callable[[float | None], tuple[int, ...]]
    ) -> tuple[dict[int, tuple[int, ...]], dict[int, tuple[int, ...]]]:
        """The shared pipes of each site, out and back."""
        members: dict[int, list[Worker]] = {}
        for worker in workers:
            members.setdefault(self._sites[worker.index], []).append(worker)
        out: dict[int, tuple[int, ...]] = {}
        back: dict[int, tuple[int, ...]] = {}
        for site, group in members.items():
            out[site] = pipe(self.spec.pipe([worker.profile.uplink.bandwidth for worker in group]))
            back[site] = pipe(self.spec.pipe([worker.profile.downlink.bandwidth for worker in group]))
        return out, back
