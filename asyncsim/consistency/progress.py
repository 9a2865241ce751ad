"""What a consistency rule may see: counts, versions, times and machines, never tensors."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol


class Power(NamedTuple):
    """What a worker's machine draws at this moment (watts) if it computes nothing (``idle``) or computes (``busy``), and whether
    its user has an application ``in_use``."""

    idle: float
    busy: float
    in_use: bool


class Progress(Protocol):
    """What a consistency rule may see of the workers of a shard."""

    version: int
    num_workers: int
    state: Any  # what the rule's ``init`` made; the rule may change it, nobody else looks at it
    seen: float  # what the rule ``sees`` of the push that arrived last, if it declares ``Need.VALUES``; else NaN

    @property
    def loss(self) -> float:
        """The same number, of a rule that sees training losses."""
        ...

    @property
    def now(self) -> int:
        """Virtual nanoseconds."""
        ...

    @property
    def members(self) -> int:
        """The number of workers that have not stopped or left; one that has crashed will be back, and is a member."""
        ...

    def present(self) -> list[int]:
        """The workers that have not stopped or left, in their order."""
        ...

    def note(self, name: str, value: float) -> None:
        """Record a number of the push that has arrived, in the rule's ``arrived``: the column ``name`` of the updates table,
        which the rule has declared in its ``notes``."""
        ...

    def rate(self, worker: int) -> float:
        """Pushes that the worker has delivered per virtual second, from time 0 to its last one; 0 before the first."""
        ...

    def clock(self, worker: int) -> int:
        """The number of rounds that the worker has completed, which is the number of pushes it has delivered."""
        ...

    def slowest(self) -> int:
        """The smallest clock among the workers that are up."""
        ...

    def fastest(self) -> int:
        """The largest clock among the workers that are up."""
        ...

    def delivered(self, worker: int) -> int:
        """The version on which the worker's last delivered push was computed; -1 before the first."""
        ...

    def pushes(self, worker: int) -> int:
        """The number of pushes that the worker has delivered since the last update."""
        ...

    def reading(self, worker: int) -> int:
        """The version of the snapshot on which the worker computes now."""
        ...

    def received(self, worker: int) -> int:
        """The number of pushes that the worker has delivered. Unlike its clock it is not moved on when the worker comes back."""
        ...

    def exchanged(self, worker: int) -> int:
        """The number of the worker's exchanges that are over: the messages have arrived, or never will."""
        ...

    def hears(self, worker: int, number: int) -> tuple[int, ...]:
        """The workers whose messages go to this one in their exchange ``number``."""
        ...

    @property
    def exchanges(self) -> int:
        """The number of exchanges of all workers that are over."""
        ...

    def power(self, worker: int, /) -> Power:
        """What the worker's machine draws now; nothing where it has no `instance`."""
        ...

    def expected_round(self, worker: int, /) -> float:
        """Virtual seconds that a round of the worker takes by the means of its delays, if its machine stays as fast as now."""
        ...
