"""Two levels of servers: what regional ones and the global one hold, and what is on its way between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncsim.exchange import RegionalServers
from asyncsim.messages import Push, Snapshot
from asyncsim.simulation.peers import Counted, Own
from asyncsim.simulation.shard import Shard

if TYPE_CHECKING:
    from torch import Tensor


class Hierarchy(Counted):
    """A shard in one row a region, with a policy of its own each, and the global server ``center``. The parameters of the whole
    are the global server's.

    The version counts the updates of all regions: the staleness of a push is the number of updates that any of them has made
    since its read. The gap is how far the region's own parameters have moved since.
    """

    def __init__(self, rows: list[Own], center: Shard, rule: RegionalServers, places: list[int]) -> None:
        super().__init__(rows)
        self.center = center
        self.share = rule.share
        self.places = places  # by worker: its region
        self.anchors = [row.params for row in rows]
        self.anchored = [0] * len(rows)  # the global version of each anchor
        self.sent: list[Tensor | None] = [None] * len(rows)  # by region: on its way to the global server, shape ``(P,)``
        self.answered: list[Tensor | None] = [None] * len(rows)  # on its way back

    def row(self, member: int) -> Own:
        return self.rows[self.places[member]]

    def state(self) -> dict[str, Any]:
        own = {name: list(getattr(self, name)) for name in ("anchors", "anchored", "sent", "answered")}
        return super().state() | own | {"center": self.center.state()}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        self.center.restore(state["center"])
        self.center.progress.version = self.center.version
        for name in ("anchors", "anchored", "sent", "answered"):
            setattr(self, name, list(state[name]))

    @property
    def params(self) -> Tensor | None:
        return self.center.params

    @property
    def diverged(self) -> tuple[int, int] | None:
        return min((each.diverged for each in (*self.rows, self.center) if each.diverged), key=lambda each: each[1], default=None)

    def check_finite(self) -> None:
        self.center.check_finite()
        super().check_finite()

    def read(self, member: int, now: int, version: int | None = None) -> Snapshot:
        return self._counted(member).read(member, now, version)

    def settle(self, now: int) -> bool:
        """Called when a worker has left for good: nothing waits for that here."""
        return False

    def relay(self, region: int) -> None:
        """What a region has moved by since its anchor sets out."""
        anchor, params = self.anchors[region], self.rows[region].params
        self.sent[region] = anchor - params if anchor is not None and params is not None and self.numeric else None

    def reach(self, region: int, now: int) -> None:
        """It has arrived: the global server takes a step, and its parameters set out."""
        center = self.center
        center.now, center.numeric = now, self.numeric
        snapshot = Snapshot(self.anchors[region], self.anchored[region], now, 1.0)
        staleness = center.version - self.anchored[region]
        center.apply(Push(region, 0, snapshot, staleness, now, 0, None, replaced=self.sent[region]), now)
        self.sent[region], self.anchored[region] = None, center.version
        self.answered[region] = center.view()

    def merge(self, region: int) -> None:
        """They have arrived: the region takes its share of them, and goes on from there."""
        row, answer = self.rows[region], self.answered[region]
        if row.params is not None and answer is not None and self.numeric:
            row.replace_row(row.params * (1.0 - self.share) + answer * self.share, row.weight)
        self.anchors[region], self.answered[region] = row.params, None

    def _share_divergence(self) -> None:
        super()._share_divergence()
        if not self.center.numeric:
            self.numeric = False
