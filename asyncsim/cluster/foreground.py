"""The applications that the users of phones open: what is in the foreground of a machine, and when."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import NamedTuple

from pydantic import model_validator

from asyncsim.cluster.delays import LastingDelay
from asyncsim.cluster.phones import App, Phone
from asyncsim.cluster.speed import Episode
from asyncsim.registry import Spec, located
from asyncsim.streams import Draws, Streams
from asyncsim.units import PositiveSeconds, nanoseconds


class Session(NamedTuple):
    """An ``app`` is in the foreground from ``start`` until ``end`` (ns, excluded)."""

    start: int
    end: int
    app: App


class Foreground(Spec):
    """In each ``slot`` in which a phone shows no application its user opens one with probability ``slot / every`` (Bernoulli
    arrivals), each of the phone's apps with the same probability.

    It stays for a time drawn from ``session``; by default as long as the training task takes beside it (`App.seconds`), so that
    training which begins with it ends with it. Until a session is over no other begins.
    """

    every: PositiveSeconds = 1000.0
    slot: PositiveSeconds = 1.0
    session: LastingDelay | None = None

    @model_validator(mode="after")
    def _a_probability(self) -> Foreground:
        if self.every < self.slot:
            message = f"an application in each slot is the most there can be; allowed is `slot` ({self.slot:g} s) or more"
            raise located("foreground", [(("every",), self.every, message)])
        return self

    def sessions(self, phone: Phone, streams: Streams, worker: int) -> Iterator[Session]:
        """The sessions of one worker's phone in order of time; the iterator is endless."""
        slot, probability = nanoseconds(self.slot), self.slot / self.every
        slots = Draws(streams, "app after", (worker,), lambda rng, size: rng.geometric(probability, size))
        which = Draws(streams, "app", (worker,), lambda rng, size: rng.integers(len(phone.apps), size=size))
        length = None
        if self.session is not None:
            length = Draws(streams, "session", (worker,), self.session.for_worker(streams, worker).sample)
        free = 0  # the first slot without an application
        for index in count():
            app = phone.apps[int(which[index])]
            start = (free + int(slots[index]) - 1) * slot
            end = start + max(1, nanoseconds(app.seconds if length is None else length[index]))
            yield Session(start, end, app)
            free = -(-end // slot)

    def episodes(self, phone: Phone, streams: Streams, worker: int) -> Iterator[Episode]:
        """The sessions as changes of the phone's speed."""
        return (Episode(start, end, phone.factor(app)) for start, end, app in self.sessions(phone, streams, worker))


class Usage:
    """What one phone shows over time. Sessions are generated only as far as they are asked for."""

    def __init__(self, sessions: Iterator[Session]) -> None:
        self._coming = sessions
        self._known: list[Session] = [next(sessions)]  # the last of them begins after all that was asked for

    def at(self, now: int) -> App | None:
        """The application in the foreground at ``now`` (ns)."""
        self._generate(now)
        place = bisect_right(self._known, now, key=_start)
        return self._known[place - 1].app if place and self._known[place - 1].end > now else None

    def within(self, start: int, end: int) -> Counter[App]:
        """For how long (ns) each application is in the foreground between ``start`` and ``end``, of those that are at all."""
        self._generate(end)
        found: Counter[App] = Counter()
        first = bisect_right(self._known, start, key=_start)
        for session in self._known[max(0, first - 1) : bisect_right(self._known, end, key=_start)]:
            shared = min(end, session.end) - max(start, session.start)
            if shared > 0:
                found[session.app] += shared
        return found

    def _generate(self, now: int) -> None:
        while self._known[-1].start <= now:
            self._known.append(next(self._coming))


def _start(session: Session) -> int:
    return session.start
