"""Collect several pushes and pass on their mean as one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.mean import mean_push
from asyncsim.policies.state import State
from asyncsim.policies.transform import Transform, policies
from asyncsim.units import PositiveSeconds, nanoseconds

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Group(State):
    """The pushes that wait for others, in the order of their arrivals, and the virtual time (ns) at which their group is closed
    whoever is missing, if there is such a time."""

    buffer: list[Push] = field(default_factory=list)
    closes: int | None = None


def everybody(pushes: list[Push], server: ServerView) -> bool:
    """Has every member of the group pushed at least once?"""
    return len({push.worker for push in pushes} - server.departed) >= server.members


@policies.register("accumulate")
class Accumulate(Transform):
    """Average ``count`` pushes, from whichever workers, into one update (n-softsync, FedBuff, K-sync, Rennala). Without
    ``count``, wait for ``each`` pushes of every member (with one each, this is synchronous SGD).

    With ``within``, a group is closed that long after its first push has arrived, however many it has by then (the grace
    window of asynchronous local SGD, Liu et al. 2024, arXiv 2401.09135); ``count`` closes it earlier.

    With ``members`` (which the methods with barriers set) a group is also complete when every member has pushed, so a worker
    that leaves for good does not hold the others up; what it had pushed before counts. Each push keeps its own penalty
    ``p``: the update is ``(1/count) * sum(direction / p)``. ``total`` applies the sum of the gradients instead of their mean
    (as ADL's code does). Pushes that are still buffered when the run ends are not applied.
    """

    count: int | None = Field(default=None, ge=1)
    members: bool = False
    each: int = Field(default=1, ge=1)
    total: bool = False
    within: PositiveSeconds | None = None

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        everyone = Need.EVERYONE if self.count is None else Need.NOTHING
        return Need.BUFFERS | Need.MEANS | everyone | (Need.NOTHING if self.within is None else Need.CLOSES)

    def init(self, params: Tensor | None, num_workers: int) -> Group:
        return Group()

    def update(self, push: Push, state: Group, server: ServerView) -> Push | Verdict:
        if self.within is not None and not state.buffer:
            state.closes = push.time + nanoseconds(self.within)
        state.buffer.append(push)
        return self.settle(state, server) or Verdict.BUFFERED

    def settle(self, state: Group, server: ServerView) -> Push | None:
        buffer = state.buffer
        closed = state.closes is not None and server.now >= state.closes
        if not buffer or not (closed or self.complete(state, server)):
            return None
        state.buffer, state.closes = [], None
        if len(buffer) == 1:
            return buffer[0]
        mean = mean_push(buffer)
        if self.total and mean.payload is not None:
            mean.replaced = mean.gradient * len(buffer)
        return mean

    def closes(self, state: Group) -> int | None:
        return state.closes if state.buffer else None

    def wanted(self, state: Group) -> int | None:
        """How many pushes complete the group, whoever sent them; None: that depends on the members alone."""
        return self.count

    def complete(self, state: Group, server: ServerView) -> bool:
        """Have all pushes come that this group waits for?"""
        buffer, count = state.buffer, self.wanted(state)
        if count is not None and len(buffer) >= count:
            return True
        if count is not None and not self.members:
            return False
        needed = self.each * server.members
        if len(buffer) < needed:  # spares the count below for most pushes of a large fleet
            return False
        return sum(push.worker not in server.departed for push in buffer) >= needed
