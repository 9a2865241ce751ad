"""A stream: items that arrive by the clock. What the scenario says of it, and what a server and its shards keep of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.registry import Spec
from asyncsim.units import NANOSECONDS, PositiveSeconds, nanoseconds

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.messages import Push
    from asyncsim.tasks.task import Task


class Stream(Spec):
    """The scenario's section ``stream``: item ``i``, a batch, arrives at ``i * period`` of virtual time.

    With its arrival it is predicted by the newest parameters, which takes nobody's time, and enters the online accuracy. Then it
    goes to the worker (in a pipeline: group) whose turn it is, ``i mod turns``, if that is free at this instant; otherwise it
    is never learnt. ``turns`` is by default the number of these workers; where it is larger, the items of the others are not
    learnt.

    ``decay`` is ``c``, a virtual second, of the adaptation rate ``R = sum over items of exp(-c r) / items``, with ``r`` from an
    item's arrival to the update that it is in (infinite if it is in none).
    """

    shorthand: ClassVar[str | None] = "period"
    period: PositiveSeconds
    turns: int | None = Field(default=None, ge=1)
    decay: float = Field(default=1.0, ge=0)

    def learn(self, learnt: tuple[int, float], push: Push, now: int) -> tuple[int, float]:
        """Items that a shard has learnt, and the sum of their ``exp(-c r)``, after an update of ``push`` made ``now`` (ns)."""
        items, worth = learnt
        for _, item in push.sources:
            items, worth = items + 1, worth + math.exp(-self.decay * (now - item * nanoseconds(self.period)) / NANOSECONDS)
        return items, worth


class Predicting:
    """A server that predicts the items of a stream, if there is one (``streams``): so many ``items``, and the share of each that
    was ``right``, summed."""

    streams = False
    items = 0
    right = 0.0
    task: Task | None

    @property
    def numeric(self) -> bool:
        raise NotImplementedError

    @property
    def params(self) -> Tensor | None:
        raise NotImplementedError

    @property
    def online(self) -> tuple[float, ...]:
        """The share that was right of all items until now, NaN before the first; nothing where there is no stream."""
        return (self.right / self.items if self.items else math.nan,) if self.streams else ()

    def predict(self, item: int) -> None:
        """An item has arrived. What has diverged predicts nothing right."""
        self.items += 1
        if self.task is not None and self.numeric:
            assert self.params is not None, "they are numbers"
            self.right += self.task.accuracy(self.params, item)
