"""What workers hold that exchange with each other one by one: their rows, and what is on its way between them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from asyncsim.errors import UserError
from asyncsim.exchange import Exchange
from asyncsim.messages import Snapshot
from asyncsim.simulation.rows import Rows, combined, there
from asyncsim.simulation.shard import Arrival, Shard

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Future

CLOSE = 1e-9
"""How far weights may be from adding up to 1."""


@dataclass(slots=True, eq=False)
class InTransit:
    """What a message took away of its sender's row: parameters of shape ``(P,)``, None in a plan, and their weight."""

    sender: int
    number: int  # of the sender's exchange
    receiver: int
    weight: float
    vector: Tensor | None


class Own(Shard):
    """The row of one worker: ``params`` (P,) and their ``weight``. What it reads is ``params / weight``, the parameters without
    the bias that unequal sums give them (push-sum's de-biasing); the weight is 1 unless messages carry shares away."""

    weight: float = 1.0
    _read: tuple[Tensor | None, float, Tensor | None] = (None, 1.0, None)  # parameters and weight, and what they are read as

    @property
    def unbiased(self) -> Tensor | None:
        """What the worker holds, without bias: one tensor as long as the row is the same."""
        if self.weight == 1.0 or self.params is None:
            return self.params
        params, weight, unbiased = self._read
        if params is not self.params or weight != self.weight:
            unbiased = self.params / self.weight
            self._read = self.params, self.weight, unbiased
        return unbiased

    def replace_row(self, params: Tensor | None, weight: float) -> None:
        """Hold something else from now on, without an update."""
        self.params, self.weight = params, weight
        self._view = (-1, None)

    def view(self, worker: int = -1) -> Tensor | None:  # type: ignore[override]  # as in `Shard`
        own = self.unbiased
        if own is None:
            return None
        version, view = self._view
        if version != self.version or self.policy.worker_view:
            view = self.policy.view(own, self, worker)
            self._view = (self.version, view)
        return view


class Counted(Rows[Own]):
    """Rows each of whose updates is one of the whole: the version counts those of all rows."""

    def take_in(self, member: int, step: int, snapshot: Snapshot, work: Future | None, now: int, up: bool) -> Arrival:
        row = self._counted(member)
        arrival = row.take_in(member, step, snapshot, work, now, up)
        self.version, self.samples = row.version, row.samples
        if not row.numeric:
            self._share_divergence()
        return arrival

    def check_finite(self) -> None:
        super().check_finite()
        self._share_divergence()

    def _counted(self, member: int) -> Own:
        """The row of a member, which is told the updates and samples of all."""
        row = self.row(member)
        row.version, row.samples = self.version, self.samples
        return row

    def _share_divergence(self) -> None:
        if not all(row.numeric for row in self.rows):
            self.numeric = False


class Peers(Counted):
    """A shard in one row a worker, where each push is an update of its worker's row alone, and messages change rows between
    updates as the rule ``exchange`` says.

    The version counts the updates of all workers: the staleness of a push is the number of updates that any of them has made
    since its read. The gap is how far the worker's own row has moved since. The parameters of the whole are the sum of what the
    workers that are left hold and have on its way to each other, divided by the sum of the weights.
    """

    def __init__(self, rows: list[Own], exchange: Exchange) -> None:
        super().__init__(rows)
        self.exchange = exchange
        self._sent: list[list[InTransit]] = [[] for _ in rows]  # by sender: under way
        self._received: list[list[InTransit]] = [[] for _ in rows]  # by receiver: has arrived, and is taken in when that reads

    @property
    def under_way(self) -> list[InTransit]:
        """What is on its way, in the order of the senders."""
        return list(chain.from_iterable(self._sent))

    @property
    def received(self) -> list[InTransit]:
        """What has arrived and has not been taken in, in the order of the receivers."""
        return list(chain.from_iterable(self._received))

    def state(self) -> dict[str, Any]:
        groups = (self.under_way, self.received)
        carried = [[[each.sender, each.number, each.receiver, each.weight, each.vector] for each in group] for group in groups]
        return super().state() | {"carried": carried, "weights": [row.weight for row in self.rows]}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        under_way, received = state["carried"]
        for each in (InTransit(*fields) for fields in under_way):
            self._sent[each.sender].append(each)
        for each in (InTransit(*fields) for fields in received):
            self._received[each.receiver].append(each)
        for row, weight in zip(self.rows, state["weights"], strict=True):
            row.weight = weight

    @property
    def weight(self) -> float:
        """The sum of the weights of all rows and messages, also of workers that have left: it stays the number of workers."""
        holders: tuple[Own | InTransit, ...] = (*self.rows, *self.under_way, *self.received)
        return math.fsum(each.weight for each in holders)

    @property
    def params(self) -> Tensor | None:
        left = [row for index, row in enumerate(self.rows) if index not in self.progress.departed] or self.rows
        if left[0].params is None:
            return None
        carried = [each for each in self.received if each.receiver not in self.progress.departed] + self.under_way
        if len(left) == 1 and not carried:
            return left[0].unbiased
        holders: tuple[Own | InTransit, ...] = (*left, *carried)
        vectors = there([*(row.params for row in left), *(each.vector for each in carried)])
        return combined([1.0] * len(vectors), vectors) / math.fsum(each.weight for each in holders)

    def read(self, member: int, now: int, version: int | None = None) -> Snapshot:
        self._take_received(member)
        return self._counted(member).read(member, now, version)

    def settle(self, now: int) -> bool:
        """Called when a worker has left for good: nothing waits for that here."""
        return False

    def set_out(self, worker: int, number: int, partners: tuple[int, ...]) -> None:
        """The messages of an exchange set out, with their shares of the sender's row."""
        shares = self.exchange.shares(partners)
        if not shares:
            return
        left = 1.0 - math.fsum(shares.values())
        if set(shares) != set(partners) or min(shares.values()) <= 0 or left <= 0:
            raise UserError(
                f"the exchange `{self.exchange.kind}` gives its partners {list(partners)} the shares {shares}; allowed are "
                "shares above 0, one for each partner, of which something is left"
            )
        row = self.rows[worker]
        for partner, share in shares.items():
            vector = None if row.params is None else row.params * share
            self._sent[worker].append(InTransit(worker, number, partner, row.weight * share, vector))
        row.replace_row(None if row.params is None else row.params * left, row.weight * left)

    def meet(self, worker: int, partner: int, number: int) -> None:
        """A message has arrived at ``partner``, and been answered if the rule is so. A share whose receiver has left meanwhile
        goes back to its sender."""
        arrived = [each for each in self._sent[worker] if (each.receiver, each.number) == (partner, number)]
        self._sent[worker] = [each for each in self._sent[worker] if (each.receiver, each.number) != (partner, number)]
        if partner in self.progress.departed:
            self._add(worker, arrived)
            return
        self._received[partner] += arrived
        self._mix(worker, partner)

    def take_back(self, worker: int) -> None:
        """The messages of a worker that are under way will not arrive: it keeps what they carried."""
        mine, self._sent[worker] = self._sent[worker], []
        self._add(worker, mine)

    def _mix(self, worker: int, partner: int) -> None:
        weights = self.exchange.mixes(worker, partner)
        if not weights:
            return
        for source in {each for row in weights.values() for each in row}:
            given = math.fsum(row.get(source, 0.0) for row in weights.values())
            if source not in weights or abs(given - 1.0) > CLOSE:
                raise UserError(
                    f"the exchange `{self.exchange.kind}` gives away {given:g} times what worker {source} holds; the weights of "
                    "each worker's parameters must add up to 1, its own share included"
                )
        held = {source: (self.rows[source].params, self.rows[source].weight) for source in weights}
        for target, row in weights.items():
            shares, sources = list(row.values()), [held[source] for source in row]
            params = None if sources[0][0] is None else combined(shares, there(params for params, _ in sources))
            weight = math.fsum(share * weight for share, (_, weight) in zip(shares, sources, strict=True))
            self.rows[target].replace_row(params, weight)

    def _take_received(self, member: int) -> None:
        """Take in what has arrived from senders that were in the same round or before, in the order of rounds and senders."""
        pushes = self.progress.received(member)
        mine = [each for each in self._received[member] if each.number < pushes]
        if mine:
            self._received[member] = [each for each in self._received[member] if each.number >= pushes]
            self._add(member, sorted(mine, key=lambda each: (each.number, each.sender)))

    def _add(self, member: int, carried: list[InTransit]) -> None:
        row = self.rows[member]
        for each in carried:
            params = row.params
            row.replace_row(None if params is None or each.vector is None else params + each.vector, row.weight + each.weight)
