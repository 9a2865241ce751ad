"""Messages between regional servers and a global one, in time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asyncsim.exchange import RegionalServers
from asyncsim.simulation.transport.transport import DOWN, UP
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker
    from asyncsim.streams import Streams


class Relays:
    """The messages between regional servers and the global one in time, in the background of what workers do. They are charged to
    the machine of the region's first worker, and the answers to the server's."""

    def __init__(self, sim: SimulationView, rule: RegionalServers, streams: Streams) -> None:
        self._sim = sim
        self._every = rule.every
        self._places = rule.places(len(sim.workers))
        regions = range(self._places[-1] + 1)
        self._links = [rule.link(region) for region in regions]
        latencies = [link.latency for link in self._links]
        self._latencies = {
            UP: [each.draws(streams, "relay", region) for region, each in enumerate(latencies)],
            DOWN: [each.draws(streams, "relay answer", region) for region, each in enumerate(latencies)],
        }
        self._updates = [0 for _ in regions]  # of each region since it has sent something
        self._messages = [0 for _ in regions]
        self._under_way = [False for _ in regions]

    def updated(self, worker: Worker) -> None:
        """The server of the worker's region has made an update."""
        region = self._places[worker.index]
        self._updates[region] += 1
        self._look(region)

    def _look(self, region: int) -> None:
        """Send, if it is time."""
        if self._updates[region] < self._every or self._under_way[region]:
            return
        self._updates[region], self._under_way[region] = 0, True
        self._sim.server.hierarchy.relay(region)
        self._carry(region, UP, self._reached)

    def _reached(self, region: int) -> None:
        self._sim.server.hierarchy.reach(region, self._sim.env.now)
        self._carry(region, DOWN, self._answered)

    def _answered(self, region: int) -> None:
        self._sim.server.hierarchy.merge(region)
        self._messages[region] += 1
        self._under_way[region] = False
        self._look(region)

    def _carry(self, region: int, purpose: str, then: Callable[[int], None]) -> None:
        sim, nbytes = self._sim, self._sim.costs.relay_bytes
        seconds = self._links[region].duration(self._latencies[purpose][region][self._messages[region]], nbytes)

        def arrived(_: Any = None) -> None:
            if not sim.over:
                sim.observers.sent(sim.workers[self._places.index(region)], purpose, nbytes)
                then(region)

        after = nanoseconds(seconds)
        if after:
            sim.env.timeout(after).callbacks.append(arrived)
        else:
            arrived()
