"""The cost and the energy of a run at any moment, counted from the spans of the workers' time, the server's service, and the
bytes sent."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncsim.cluster.prices import Instance
from asyncsim.records.rows import COSTS, EVENT_KINDS, WORK
from asyncsim.simulation.transport.transport import DOWN
from asyncsim.units import NANOSECONDS

if TYPE_CHECKING:
    from asyncsim.cluster import App, Cluster
    from asyncsim.records.rows import SpanRow
    from asyncsim.simulation.server import Server
    from asyncsim.simulation.view import SimulationView
    from asyncsim.simulation.worker import Worker

BUSY = frozenset(EVENT_KINDS.index(kind) for kind in WORK)
IS_DOWN, STOP = EVENT_KINDS.index("down"), EVENT_KINDS.index("stop")
HOUR = 3600 * NANOSECONDS
FREE = Instance()


class Bill(NamedTuple):
    """Dollars for ``workers``, ``server`` and ``transfer``; joules of ``busy`` and ``idle`` workers, of phones that show an app
    and compute (``shared``) or not (``apps``), and of the server's ``hosts``; bytes ``sent``."""

    workers: float
    server: float
    transfer: float
    busy: float
    idle: float
    shared: float
    apps: float
    hosts: float
    sent: float

    @property
    def cost(self) -> float:
        return math.fsum((self.workers, self.server, self.transfer))

    @property
    def energy(self) -> float:
        return math.fsum((self.busy, self.idle, self.shared, self.apps, self.hosts))

    @property
    def totals(self) -> tuple[float, float]:
        """Dollars and joules."""
        return self.cost, self.energy


class Use(NamedTuple):
    """The nanoseconds for which a worker's machine was kept (``held``) and computed (``busy``), and the bytes that it sent; of a
    phone also for how long it showed which app, while it computed (``shared``) and while it did not (``apps``)."""

    held: int
    busy: int
    sent: float
    shared: Counter[App] | None = None
    apps: Counter[App] | None = None


class Meter:
    """Counts what is paid and drawn. It sees every span of a worker's time when that is recorded, and every message that has
    been sent.

    - A machine is paid, and draws its idle power at least, until its worker leaves for good or the run ends. Times are left
      out in which its worker had not joined, had left for a while, or was down (unless the instance says otherwise).
    - It draws its busy power while the worker computes, also for work that is lost later. The server's machines draw it
      while they serve. A phone that shows an application draws what that takes, with or without computing, instead.
    - A message is charged to its sender: between worker and server when it has arrived, between stages when it is sent. A
      shard that lies on its worker's own machine sends nothing.

    An observer. Times are integer nanoseconds and are summed before they are priced, so the parts add up whatever their order.
    """

    def __init__(self, sim: SimulationView, cluster: Cluster) -> None:
        self._sim = sim
        self._host = cluster.server.instance or FREE
        self._hosts = 1 if cluster.network is None else cluster.network.hosts
        self._all_reduce = cluster.all_reduce is not None
        self._instances = [worker.profile.instance or FREE for worker in sim.workers]
        self._busy = [0] * len(sim.workers)
        self._free = [0] * len(sim.workers)  # down, and neither paid nor drawing
        self._shared: dict[int, Counter[App]] = {worker.index: Counter() for worker in sim.workers if worker.usage}
        self._unseen: dict[int, Counter[App]] = {worker: Counter() for worker in self._shared}  # apps in the time that is free
        self.in_use = bool(self._shared)
        self._stopped: dict[int, int] = {}  # worker -> when it left for good
        self._sent = [0.0] * len(sim.workers)
        self._handed = 0.0  # bytes that the server has sent

    def span(self, row: SpanRow) -> None:
        """A span of a worker's time has ended."""
        kind, worker, start, end = row.kind, row.worker, row.start_ns, row.end_ns
        usage = self._sim.workers[worker].usage
        if kind in BUSY:
            self._busy[worker] += end - start
            if usage is not None:
                self._shared[worker] += usage.within(start, end)
        elif kind == IS_DOWN and self._is_free(worker):
            self._free[worker] += end - start
            if usage is not None:
                self._unseen[worker] += usage.within(start, end)
        elif kind == STOP:
            self._stopped[worker] = end

    def sent(self, worker: Worker, purpose: str, nbytes: float) -> None:
        """A message has arrived or, between stages, is under way. An all-reduce of N sends 2 (N - 1) / N of a result's bytes
        from each worker, and no parameters."""
        if purpose == DOWN:
            if not self._all_reduce:
                self._handed += nbytes
            return
        if self._all_reduce:
            members = self._sim.progress[0].members
            nbytes *= 2 * (members - 1) / members
        self._sent[worker.index] += nbytes

    def use(self, worker: int, now: int) -> Use:
        """What one worker's machine did until ``now`` (ns), including the span that it is in."""
        at = self._sim.workers[worker]
        computes, free = at.activity in BUSY, at.activity == IS_DOWN and self._is_free(worker)
        busy = self._busy[worker] + (now - at.since if computes else 0)
        gone = self._free[worker] + (now - at.since if free else 0)
        end, sent = self._stopped.get(worker, now), self._sent[worker]
        if at.usage is None:
            return Use(end - gone, busy, sent)
        going_on = at.usage.within(at.since, now) if computes or free else Counter()
        shared = self._shared[worker] + (going_on if computes else Counter())
        apps = at.usage.within(0, end) - self._unseen[worker] - (going_on if free else Counter()) - shared
        return Use(end - gone, busy, sent, shared, apps)

    def _is_free(self, worker: int) -> bool:
        """Is a worker that is down neither paid nor drawing power?"""
        return self._sim.workers[worker].absent or not self._instances[worker].billed_while_down

    def totals(self, now: int) -> tuple[float, float]:
        """Dollars and joules until ``now`` (ns)."""
        return self.bill(now).totals

    def bill(self, now: int) -> Bill:
        """The bill at ``now`` (ns)."""
        total: dict[Instance, tuple[int, int, int, float]] = {}
        shared: Counter[App] = Counter()
        apps: Counter[App] = Counter()
        for worker, instance in enumerate(self._instances):
            held, busy, idle, sent = total.get(instance, (0, 0, 0, 0.0))
            use = self.use(worker, now)
            busy, idle = busy + use.busy, idle + use.held - use.busy
            if use.shared is not None and use.apps is not None:
                shared.update(use.shared)
                apps.update(use.apps)
                busy, idle = busy - use.shared.total(), idle - use.apps.total()
            total[instance] = held + use.held, busy, idle, sent + use.sent
        host, uses = self._host, total.items()
        serving = sum(queue.busy(now) for queue in self._sim.arrivals.queues)
        return Bill(
            math.fsum(instance.rate * held / HOUR for instance, (held, _, _, _) in uses),
            host.rate * self._hosts * now / HOUR,
            math.fsum([*(instance.egress * sent / 1e9 for instance, (_, _, _, sent) in uses), host.egress * self._handed / 1e9]),
            math.fsum(instance.busy * busy / NANOSECONDS for instance, (_, busy, _, _) in uses),
            math.fsum(instance.idle * idle / NANOSECONDS for instance, (_, _, idle, _) in uses),
            math.fsum(app.training * time / NANOSECONDS for app, time in shared.items()),
            math.fsum(app.alone * time / NANOSECONDS for app, time in apps.items()),
            (host.idle * self._hosts * now + (host.busy - host.idle) * serving) / NANOSECONDS,
            math.fsum([*self._sent, self._handed]),
        )


def spending(bill: Bill, server: Server, metrics: Mapping[str, Any], target: bool, in_use: bool) -> dict[str, float | None]:
    """The bill at the end, as numbers of the summary; with a ``target`` also what had been spent when it was reached; of phones
    that are ``in_use`` also what applications take.

    ``metrics`` is the table of the run, by columns.
    """
    values: dict[str, float | None] = {
        "cost": bill.cost, "cost_workers": bill.workers, "cost_server": bill.server, "cost_transfer": bill.transfer,
        "energy": bill.energy, "energy_busy": bill.busy, "energy_idle": bill.idle, "energy_server": bill.hosts,
        "bytes_sent": bill.sent,
    }  # fmt: skip
    if in_use:
        values |= {"energy_shared": bill.shared, "energy_apps": bill.apps}
    for name, spent in zip(COSTS, bill.totals, strict=True):
        values[f"{name}_per_1000_updates"] = 1000 * spent / server.updates if server.updates else None
        if target:
            values[f"{name}_to_target"] = None
            if server.reached is not None:
                values[f"{name}_to_target"] = float(metrics[name][list(metrics["time_ns"]).index(server.reached)])
    return values
