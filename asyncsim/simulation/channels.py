"""Channels with limited room for messages and meeting points, which connect the stages of a group; and a stage's place among
them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import simpy

    from asyncsim.messages import Snapshot
    from asyncsim.simulation.clock import Clock
    from asyncsim.simulation.orders import Action


class Message(NamedTuple):
    """An activation on its way up, or an error signal on its way down. ``content`` is what computes it (None in a plan)."""

    batch: int
    version: int  # of the snapshot that the first stage read for this batch
    content: Any


class Channel:
    """One direction between two neighbouring stages: messages arrive in the order in which they were sent.

    ``room`` counts what is under way and what waits at the receiver, so a sender asks for it before it begins a pass.
    """

    def __init__(self, env: Clock, capacity: int) -> None:
        self.env = env
        self.capacity = capacity
        self.inbox: deque[Message] = deque()
        self.fullest = 0
        self._under_way = 0
        self._latest = 0  # when the last message arrives
        self._last: simpy.Process | None = None  # the last message that passes a network
        self._waiting: list[simpy.Event] = []

    @property
    def room(self) -> bool:
        return self._under_way + len(self.inbox) < self.capacity

    def changes(self) -> simpy.Event:
        """An event that happens when a message arrives or is taken."""
        event = self.env.event()
        self._waiting.append(event)
        return event

    def send(self, message: Message, duration: int | Generator[Any, Any, None]) -> None:
        """Send a message that takes ``duration`` ns, or the time a network takes. It arrives after all messages sent before it.
        """
        if not self.room:
            raise RuntimeError(f"a message for a channel that holds {self.capacity} already")
        if not isinstance(duration, int):
            self._under_way += 1
            self._last = self.env.process(self._carry(message, duration, self._last))
            return
        self._latest = max(self._latest, self.env.now + duration)
        self._under_way += 1
        if self._latest == self.env.now:
            self._put(message)
        else:
            self.env.timeout(self._latest - self.env.now).callbacks.append(lambda _: self._put(message))

    def _carry(
        self, message: Message, passage: Generator[Any, Any, None], before: simpy.Process | None
    ) -> Generator[Any, Any, None]:
        yield from passage
        if before is not None and before.is_alive:
            yield before
        self._put(message)

    def take(self) -> Message:
        """Take the oldest message, after it has been used."""
        message = self.inbox.popleft()
        self._wake()
        return message

    def _put(self, message: Message) -> None:
        self._under_way -= 1
        self.inbox.append(message)
        self.fullest = max(self.fullest, len(self.inbox))
        self._wake()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.succeed()


class Meeting:
    """A barrier: the stages of a group wait here for each other. A stage that is interrupted while it waits is not counted
    twice."""

    def __init__(self, env: Clock, size: int) -> None:
        self.env = env
        self.size = size
        self.present: set[int] = set()
        self._event = env.event()

    def join(self, stage: int) -> simpy.Event | None:
        """Arrive at the barrier. Returns the event to wait for; None for the last stage to arrive, which lets all of them go
        on."""
        self.present.add(stage)
        if len(self.present) < self.size:
            return self._event
        self.present = set()
        self._event.succeed()
        self._event = self.env.event()
        return None


@dataclass
class Stashed:
    """What a stage keeps of a batch between its forward and its backward pass."""

    snapshot: Snapshot
    version: int  # of the snapshot that the first stage read
    content: Any  # what computes the activation


Undelivered = tuple[int, "Snapshot", Any]
"""A push that has not been sent yet: batch, snapshot, and the future of its gradient (None in a plan)."""


@dataclass
class Place:
    """One worker's position in its sequence of passes, and what it holds. Both survive a crash of the worker."""

    actions: Iterator[Action]
    action: Action
    meeting: Meeting
    below: Channel | None  # activations come from here
    above: Channel | None  # activations go there
    errors: Channel | None  # error signals come from here
    answers: Channel | None  # error signals go there
    stash: dict[int, Stashed] = field(default_factory=dict)  # by batch
    met: simpy.Event | None = None  # of the meeting it waits at
    undelivered: Undelivered | None = None  # a push that has not been sent yet

    def advance(self) -> None:
        self.action = next(self.actions)
