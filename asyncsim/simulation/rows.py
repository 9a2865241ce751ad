"""Workers (or, in a pipeline, groups) that keep parameters of their own: one shard with one row of parameters for each of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asyncsim.exchange import Exchange
from asyncsim.gossip import Gossip
from asyncsim.messages import Snapshot, Verdict
from asyncsim.needs import Need
from asyncsim.simulation.shard import Arrival, Shard

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

    from asyncsim.messages import Future


R = TypeVar("R", bound=Shard)


class Rows(Generic[R]):
    """A shard in one row for each member, ``u_s`` of shape ``(P_k,)``, each with a policy that has its own state. Elsewhere it
    looks like one shard, whose parameters are the mean of the rows."""

    def __init__(self, rows: Sequence[R]) -> None:
        self.rows = rows
        self.progress = rows[0].progress
        self.version = 0
        self.samples = 0

    def state(self) -> dict[str, Any]:
        """Everything that changes during a run, except the progress of the workers."""
        return {"version": self.version, "samples": self.samples, "rows": [row.state() for row in self.rows]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""
        self.version, self.samples = state["version"], state["samples"]
        for row, its in zip(self.rows, state["rows"], strict=True):
            row.restore(its)

    @property
    def needs(self) -> Need:
        return self.rows[0].needs

    @property
    def pushes(self) -> int:
        return sum(row.pushes for row in self.rows)

    @property
    def num_workers(self) -> int:
        return self.progress.num_workers

    @property
    def lr(self) -> float:
        return self.rows[0].lr

    @property
    def buffered(self) -> int:
        return sum(row.buffered for row in self.rows)

    @property
    def numeric(self) -> bool:
        return self.rows[0].numeric

    @numeric.setter
    def numeric(self, value: bool) -> None:
        for row in self.rows:
            row.numeric = value

    @property
    def diverged(self) -> tuple[int, int] | None:
        return min((row.diverged for row in self.rows if row.diverged), key=lambda each: each[1], default=None)

    @property
    def params(self) -> Tensor | None:
        """The mean of the rows, shape ``(P_k,)``."""
        return mean([row.params for row in self.rows])

    @property
    def statistics(self) -> Tensor | None:
        return mean([row.statistics for row in self.rows])

    def row(self, member: int) -> R:
        """The row that a member reads and pushes to."""
        return self.rows[member]

    def read(self, member: int, now: int, version: int | None = None) -> Snapshot:
        return self.row(member).read(member, now, version)

    def current(self, member: int) -> Tensor | None:
        return self.row(member).current(member)

    @property
    def sized(self) -> bool:
        return self.rows[0].sized

    def depart(self, member: int, step: int, snapshot: Snapshot, work: Future | None, now: int) -> float:
        return self.row(member).depart(member, step, snapshot, work, now)

    def lose(self, member: int, step: int) -> None:
        self.row(member).lose(member, step)

    def forget(self, member: int) -> None:
        self.row(member).forget(member)

    def drop(self, work: Future) -> None:
        self.rows[0].drop(work)

    def closes(self) -> int | None:
        return min((time for row in self.rows if (time := row.closes()) is not None), default=None)

    def check_finite(self) -> None:
        for row in self.rows:
            row.check_finite()


class Row(Shard):
    """The parameters of one group. An update is kept, as the parameters it would lead to, until the groups mix."""

    half: tuple[Tensor | None, int] | None = None  # parameters after the group's own step, and its samples

    def advance(self, params: Tensor | None, samples: int, now: int) -> None:
        self.half = params, samples

    def mix(self, params: Tensor | None, samples: int, now: int) -> None:
        """Take over the mixed parameters as the next version."""
        self.half = None
        super().advance(params, samples, now)


class Mixed(Rows[Row]):
    """The rule of rounds (`asyncsim.exchange.Rounds`). A round ends when every group that is left has made its step::

        adapt then combine:   u_s <- sum_r P[s, r] (u_r - lr d_r)
        combine then adapt:   u_s <- sum_r P[s, r] u_r  -  lr d_s

    Weights of a group that has left go to the diagonal, so the matrix stays doubly stochastic. A rule may mix some of the entries
    only; then the others are ``u_s - lr d_s``.
    """

    def __init__(self, rows: list[Row], exchange: Exchange, gossip: Gossip) -> None:
        super().__init__(rows)
        self.exchange = exchange
        self.gossip = gossip
        self.matrix = gossip.matrix(len(rows))

    def state(self) -> dict[str, Any]:
        return super().state() | {"halves": [row.half for row in self.rows]}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        for row, half in zip(self.rows, state["halves"], strict=True):
            row.half = half

    @property
    def buffered(self) -> int:
        return sum(row.buffered + (row.half is not None) for row in self.rows)

    def take_in(self, member: int, step: int, snapshot: Snapshot, work: Future | None, now: int, up: bool) -> Arrival:
        row = self.rows[member]
        arrival = row.take_in(member, step, snapshot, work, now, up)
        if arrival.verdict is Verdict.DROPPED:
            row.half = row.params, 0  # no step in this round
        if not self._mix(now) and arrival.verdict is None:
            return arrival._replace(verdict=Verdict.BUFFERED)
        return arrival

    def settle(self, now: int) -> bool:
        """Called when a group has left for good, or a time has come that a policy asked for: the round may be complete now.
        Returns whether it was, and has been ended."""
        for row in self.rows:
            row.settle(now)
        return self._mix(now)

    def _mix(self, now: int) -> bool:
        """End the round if every group has made its step. Returns whether they had."""
        left = [index for index in range(len(self.rows)) if index not in self.progress.departed]
        steps = [half for index in left if (half := self.rows[index].half) is not None]
        if not left or len(steps) < len(left):
            return False
        new: list[Tensor | None] = [self.rows[index].params for index in left]
        matrix = self._among(left)
        if self.numeric:
            new = self._mixed(matrix, there(new), there([half for half, _ in steps]))
        self.samples += sum(samples for _, samples in steps)
        self.version += 1
        for index, params, (_, samples) in zip(left, new, steps, strict=True):
            self.rows[index].mix(params, samples, now)
        return True

    def _mixed(self, matrix: list[list[float]], old: list[Tensor], halves: list[Tensor]) -> list[Tensor | None]:
        """The rows after a round, of what they were before and after their own steps."""
        entries, whole = self.exchange.entries(self.version, len(old[0]), self.rows[0].streams), halves
        if entries is not None:
            old, halves = ([each[entries] for each in vectors] for vectors in (old, halves))
        if self.gossip.form == "adapt_then_combine":
            new = [combined(weights, halves) for weights in matrix]
        else:
            new = [combined(w, old) + (half - own) for w, own, half in zip(matrix, old, halves, strict=True)]
        if entries is None:
            return list(new)
        rows = [each.clone() for each in whole]
        for row, part in zip(rows, new, strict=True):
            row[entries] = part
        return list(rows)

    def _among(self, left: list[int]) -> list[list[float]]:
        """The weights among the groups that are left."""
        rows = [[self.matrix[s][r] for r in left] for s in left]
        for place, row in enumerate(rows):
            row[place] += sum(weight for r, weight in enumerate(self.matrix[left[place]]) if r not in left)
        return rows


def combined(weights: list[float], vectors: list[Tensor]) -> Tensor:
    """The weighted sum of vectors, added in order. Vectors whose weight is 0 are left out."""
    terms = [vector * weight for weight, vector in zip(weights, vectors, strict=True) if weight]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


def mean(vectors: list[Tensor | None]) -> Tensor | None:
    if vectors[0] is None or len(vectors) == 1:
        return vectors[0]
    return combined([1.0] * len(vectors), there(vectors)) / len(vectors)


def there(vectors: Iterable[Tensor | None]) -> list[Tensor]:
    """The vectors, where there are some: all of them, as numbers are computed."""
    return [vector for vector in vectors if vector is not None]
