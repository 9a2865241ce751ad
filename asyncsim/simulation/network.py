"""Messages between workers and server over shared pipes: who uses which, what is lost, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, NamedTuple

import simpy

from asyncsim.cluster import Cluster, Link
from asyncsim.simulation.pipes import Fair, Fifo, Flow, rate, work
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
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

    purpose: str  # the name of its random streams
    nbytes: float
    latency: Callable[[int], int]  # of a step, in nanoseconds
    parts: tuple[Part, ...]


class Network:
    """Carries messages: each waits for its latency, then its parts pass their pipes side by side. A try that is lost is made
    again."""

    def __init__(
        self, env: simpy.Environment, cluster: Cluster, workers: list[Worker], streams: Streams, costs: Costs,
        waste: Callable[[Worker], None],
    ) -> None:  # fmt: skip
        assert cluster.network is not None
        self.env = env
        self.spec = spec = cluster.network
        self.streams = streams
        self.waste = waste  # called to receive a copy of a push
        self.resent = 0  # tries that were lost
        self.duplicates = 0  # copies received
        self._sites = spec.sites(len(workers))
        capacities: list[int] = []

        def pipe(bandwidth: float | None) -> tuple[int, ...]:
            if not bandwidth:
                return ()
            capacities.append(rate(bandwidth))
            return (len(capacities) - 1,)

        ingress, egress = ([pipe(each) for _ in spec.parts] for each in (spec.ingress, spec.egress))
        self._out, self._back = self._site_pipes(workers, pipe)
        self.pipes = (Fair if spec.discipline == "fair" else Fifo)(env, capacities)
        self._up: dict[int, Route] = {}
        self._down: dict[int, Route] = {}
        for worker in workers:
            push, read = costs.push_bytes[worker.stage], costs.message_bytes[worker.stage]
            if push is None or read is None:  # its shard lies on the worker itself
                continue
            site, profile = self._sites[worker.index], worker.profile
            out, back = (self._out[site], self._back[site]) if spec.crosses(site) else ((), ())
            hosts = [out + host for host in ingress]
            self._up[worker.index] = self._route(worker, "uplink", profile.uplink, push, hosts)
            hosts = [host + back for host in egress]
            self._down[worker.index] = self._route(worker, "downlink", profile.downlink, read, hosts)
        for worker in workers if len(costs.shares) > 1 else ():
            self._connect(worker, costs)

    def upload(self, worker: Worker, step: int) -> Generator[Any, Any, None]:
        """Carry the result of a step to the server. A copy may follow it."""
        route = self._up.get(worker.index)
        yield from self._carry(route, worker.index, step)
        chance = self.spec.duplicate
        if chance and route is not None and self.streams("duplicate", worker.index, step).random() < chance:
            self.env.process(self._copy(worker, route))

    def _copy(self, worker: Worker, route: Route) -> Generator[Any, Any, None]:
        yield from self._pass(route.parts, route.nbytes)
        self.duplicates += 1
        self.waste(worker)

    def download(self, worker: Worker, step: int) -> Generator[Any, Any, None]:
        """Carry parameters to the worker."""
        return self._carry(self._down.get(worker.index), worker.index, step)

    def _carry(self, route: Route | None, worker: int, step: int) -> Generator[Any, Any, None]:
        if route is None:
            return
        loss, tries = self.spec.loss, [route.nbytes]
        if loss is not None:
            tries = loss.tries(self.streams, route.purpose, worker, step, route.nbytes)
        latency, last = route.latency(step), len(tries) - 1
        for index, nbytes in enumerate(tries):
            if latency:
                yield self.env.timeout(latency)
            yield from self._pass(route.parts, nbytes)
            if index < last:
                self.resent += 1
                yield self.env.timeout(nanoseconds(loss.timeout))

    def _pass(self, parts: tuple[Part, ...], nbytes: float) -> Generator[Any, Any, None]:
        flows: list[Flow] = [self.pipes.begin(part.pipes, part.cap, work(nbytes * part.share)) for part in parts]
        try:
            for flow in flows:
                yield flow.done
        except simpy.Interrupt:
            for flow in flows:
                self.pipes.abort(flow)
            raise

    def _route(self, worker: Worker, purpose: str, link: Link, nbytes: float, hosts: list[tuple[int, ...]]) -> Route:
        """The route between a worker and the server. Pipes that do not exist, or that nothing holds up, are left out."""
        bandwidth = link.bandwidth or self.spec.bandwidth(self.streams, worker.index)
        parts = [
            Part(share, pipes, None if bandwidth is None else rate(bandwidth * share))
            for share, pipes in zip(self.spec.parts, hosts, strict=True)
            if nbytes and (pipes or bandwidth is not None)
        ]
        draws = link.latency.draws(self.streams, purpose, worker.index)
        distance = self.spec.latency(self._sites[worker.index])
        return Route(purpose, nbytes, lambda step: nanoseconds(draws[step] + distance), tuple(parts))

    def _connect(self, worker: Worker, costs: Costs) -> None:
        """Make a stage send its activations and its error signals through the pipes."""
        stage, link = worker.stage, costs.link or worker.profile.uplink
        if stage < len(costs.shares) - 1:
            worker.send_up = self._between(worker, worker.index + 1, "activation", link, costs.boundary_bytes[stage])
        if stage > 0:
            worker.send_down = self._between(worker, worker.index - 1, "error", link, costs.boundary_bytes[stage - 1])

    def _between(self, worker: Worker, other: int, purpose: str, link: Link, nbytes: float) -> Callable[[int], Any]:
        one, end = self._sites[worker.index], self._sites[other]
        bandwidth = link.bandwidth or self.spec.bandwidth(self.streams, worker.index)
        pipes = () if one == end else self._out[one] + self._back[end]
        parts = (Part(1.0, pipes, None if bandwidth is None else rate(bandwidth)),) if pipes or bandwidth else ()
        draws, distance = link.latency.draws(self.streams, purpose, worker.index), self.spec.distance(one, end) or 0.0
        route = Route(purpose, nbytes, lambda step: nanoseconds(draws[step] + distance), parts)
        return lambda step: self._carry(route, worker.index, step)

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
