"""The progress of a shard's workers (clocks, versions, membership), as a consistency rule sees it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, KeysView
from typing import Any

from asyncsim.consistency import Consistency, Power
from asyncsim.errors import UserError
from asyncsim.exchange import Exchange
from asyncsim.needs import Need
from asyncsim.streams import Streams
from asyncsim.units import NANOSECONDS

KEPT = 256  # exchanges of which it is remembered who hears whom


def undeclared(until: int) -> bool:
    """Nobody has said that this would be asked."""
    raise UserError(
        "a policy asks whether a push will arrive by a time and has not declared it; give its class `needs = Need.FORESEES` "
        "(from asyncsim.needs import Need)"
    )


class WorkerProgress:
    """Counts rounds, versions and members for one shard.

    Every operation takes constant amortised time, so that rules work for 100,000 workers as for ten.
    """

    def __init__(
        self, num_workers: int, rule: Consistency | None = None, streams: Streams | None = None, exchange: Exchange | None = None,
    ) -> None:  # fmt: skip
        self.version = 0
        self.time: Callable[[], int] = int  # virtual nanoseconds; the simulation puts its clock here
        self.power: Callable[[int], Power] = _none  # of the machines, and how long a round takes them: it puts these here, too
        self.expected_round: Callable[[int], float] = float
        self.foresees: Callable[[int], bool] = undeclared  # does a push arrive by a time (ns)? Put here by the simulation, too
        self.seen = math.nan
        self.sees = rule.sees if rule is not None and Need.VALUES in rule.needs else None
        self.state: Any = None
        if rule is not None:
            assert streams is not None, "a rule may draw"
            self.state = rule.init(num_workers, streams)
        self.noted: dict[str, float] = {}  # what the rule has noted of the push that arrived last
        self._notes = () if rule is None else rule.notes
        self._share = rule.share if rule is not None and Need.SUB_MODELS in rule.needs else None
        self._arrived = None if rule is None or type(rule).arrived is Consistency.arrived else rule.arrived
        self._received = [0] * num_workers  # pushes of a worker; its clock may skip some when it comes back
        self._last = [0] * num_workers  # when its last push came (ns)
        self.undone = 0  # versions whose updates a crash of the server took back, and those that restarts made
        self.num_workers = num_workers
        self.departed: frozenset[int] = frozenset()  # workers that have left, for good or until they join again
        self._clock = [0] * num_workers
        self._delivered = [-1] * num_workers
        self._pushes = [(0, 0)] * num_workers  # the version at a worker's last push, and its pushes at that version
        self._reading: dict[int, int] = {}  # worker -> version of what it has in flight, oldest first
        self._present: list[int] | None = None  # those that have not departed, once somebody has asked
        self.exchanges = 0
        self._exchanged = [0] * num_workers
        self._exchange, self._streams = exchange, streams
        self._hears: dict[tuple[int, frozenset[int]], dict[int, tuple[int, ...]]] = {}  # by exchange and who has left: by worker
        self._up = Counter({0: num_workers})  # clock -> workers that are up
        self._slowest = 0

    @property
    def now(self) -> int:
        return self.time()

    @property
    def loss(self) -> float:
        return self.seen

    def rate(self, worker: int) -> float:
        last = self._last[worker]
        return self._received[worker] * NANOSECONDS / last if last else 0.0

    def note(self, name: str, value: float) -> None:
        if name not in self._notes:
            raise UserError(f"a consistency rule noted {name!r}; give its class `notes = ({name!r},)`")
        self.noted[name] = value

    @property
    def members(self) -> int:
        return self.num_workers - len(self.departed)

    @property
    def standing(self) -> int:
        """The number of updates that are in the parameters now: those that a crash of the server took back do not count."""
        return self.version - self.undone

    def depart(self, worker: int) -> None:
        """Take the worker out of the group, for good or until it is readmitted. It must be down already, or have just left."""
        self.departed |= {worker}
        self._present = None

    def readmit(self, worker: int) -> None:
        """Make the worker a member of the group again. It counts as down until it joins."""
        self.departed -= {worker}
        self._present = None

    def clock(self, worker: int) -> int:
        return self._clock[worker]

    def slowest(self) -> int:
        return self._slowest

    def fastest(self) -> int:
        return max(self._up, default=self._slowest)

    def delivered(self, worker: int) -> int:
        return self._delivered[worker]

    def reading(self, worker: int) -> int:
        return self._reading.get(worker, -1)

    def pushes(self, worker: int) -> int:
        version, count = self._pushes[worker]
        return count if version == self.version else 0

    def present(self) -> list[int]:
        """The workers that have not departed, in their order."""
        if self._present is None:
            self._present = [worker for worker in range(self.num_workers) if worker not in self.departed]
        return self._present

    def received(self, worker: int) -> int:
        return self._received[worker]

    def exchanged(self, worker: int) -> int:
        return self._exchanged[worker]

    def partners(self, worker: int, number: int) -> tuple[int, ...]:
        """To whom the worker's exchange ``number`` goes; raises ``UserError`` if the rule names who cannot be one."""
        exchange, members, streams = self._exchange, self.present(), self._streams
        assert exchange is not None, "workers exchange"
        assert streams is not None, "a rule may draw"
        partners = exchange.partners(worker, number, members, streams)
        known = set(partners)
        if worker in known or not all(0 <= each < self.num_workers for each in known) or known & self.departed or (
            len(known) != len(partners) or len(partners) > exchange.most_partners
        ):
            raise UserError(
                f"the exchange `{exchange.kind}` names {list(partners)} as partners of worker {worker}; allowed are up to "
                f"{exchange.most_partners} others of {members}, each once"
            )
        return partners

    def hears(self, worker: int, number: int) -> tuple[int, ...]:
        if number < 0 or self._exchange is None:
            return ()
        found = self._hears.get((number, self.departed))
        if found is None:
            senders: dict[int, list[int]] = {}
            for sender in self.present():
                for partner in self.partners(sender, number):
                    senders.setdefault(partner, []).append(sender)
            found = {receiver: tuple(heard) for receiver, heard in senders.items()}
            if len(self._hears) > KEPT:
                self._hears.clear()
            self._hears[number, self.departed] = found
        return found.get(worker, ())

    def over(self, worker: int, exchanges: int) -> None:
        """Note that of the worker's exchanges so many are over, whatever has become of the last."""
        self._exchanged[worker] = max(self._exchanged[worker], exchanges)
        self.exchanges += 1

    def in_flight(self) -> KeysView[int]:
        """The workers that hold a snapshot whose result has not reached the server, in the order of their reads."""
        return self._reading.keys()

    def read(self, worker: int) -> float:
        """Note that the worker reads. Returns the share of the model that it is to train."""
        self._reading[worker] = self.version
        if self._share is None:
            return 1.0
        share = self._share(worker, self)
        if not 0 < share <= 1:
            raise UserError(f"a consistency rule gives worker {worker} the share {share!r} of the model; allowed: 0 < share <= 1")
        return share

    def sent(self, worker: int) -> None:
        """Note that the worker's result has reached the server, where it may still have to queue."""
        self._reading.pop(worker, None)

    def push(self, worker: int, read_version: int, counts: bool, now: int = 0) -> None:
        """Note that a result computed on ``read_version`` was received at ``now`` (ns). ``counts`` says that its worker is up and
        in the group."""
        if read_version > self._delivered[worker]:
            self._delivered[worker] = read_version
        self._pushes[worker] = self.version, self.pushes(worker) + 1
        clock = self._clock[worker]
        self._clock[worker] = clock + 1
        if counts:
            self._up[clock + 1] += 1
            self._remove(clock)
        self._received[worker] += 1
        self._last[worker] = now
        if self._arrived is not None:
            self.noted = {}
            self._arrived(worker, self)

    def leave(self, worker: int) -> None:
        """Note that the worker has crashed or left: nobody waits for its clock any more. (It stays a member until it departs.)"""
        self._reading.pop(worker, None)
        self._remove(self._clock[worker])

    def join(self, worker: int) -> None:
        """Note that the worker is back. It starts at the slowest clock, if its own is behind that."""
        clock = self._clock[worker] = max(self._clock[worker], self._slowest)
        if not self._up:
            self._slowest = clock
        self._up[clock] += 1

    def _remove(self, clock: int) -> None:
        self._up[clock] -= 1
        if not self._up[clock]:
            del self._up[clock]
            if clock == self._slowest and self._up:
                self._slowest = min(self._up)


def _none(worker: int) -> Power:
    """Where no simulation has said anything of the machines."""
    return Power(0.0, 0.0, False)
