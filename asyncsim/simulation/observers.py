"""Who is told what happens in a run: the recorder, and whoever else looks on. Nobody who looks on changes anything."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from asyncsim.messages import Snapshot
    from asyncsim.records import Recorder
    from asyncsim.records.rows import SpanRow
    from asyncsim.simulation.worker import Worker

Tell = Callable[..., None]


class Observer(Protocol):
    """What an observer may be told. It has those of these methods that it cares for, and may leave out the others. Rows are named
    tuples, whose fields are the columns of their table (`asyncsim.records.rows`)."""

    def span(self, row: SpanRow) -> None:
        """A span of a worker's time has ended: a row of the events table."""

    def arrival(self, row: Any) -> None:
        """A push has arrived, and the server has acted on it: a row of the updates table."""

    def evaluation(self, row: Any) -> None:
        """The server has been evaluated: a row of the metrics table."""

    def read(self, worker: Worker, snapshot: Snapshot) -> None:
        """A worker has been handed a snapshot, which begins its way to it."""

    def sent(self, worker: Worker, purpose: str, nbytes: float) -> None:
        """A message of a worker, or for it (``purpose`` "downlink"), has arrived; between stages: is under way."""

    def arriving(self, worker: Worker, step: int, snapshot: Snapshot) -> None:
        """The server is about to act on a push."""

    def acted(self, stage: int, updated: bool) -> None:
        """The shard of a stage has acted, on a push or otherwise; ``updated``: it has a new version."""

    def lost(self, worker: Worker, step: int) -> None:
        """The result of a step will not arrive."""

    def crashed(self, worker: Worker) -> None:
        """A worker has crashed."""

    def turn(self, now: int) -> None:
        """The loop pauses between two events, at ``now`` (ns): many times a second of wall time."""


EVENTS = ("span", "arrival", "evaluation", "read", "sent", "arriving", "acted", "lost", "crashed", "turn")


class Observers:
    """Tells all that listen, in the order in which they were added: ``observers.span(row)``.

    Each event is one attribute: the method of the observer itself where there is only one, so that a run which nobody watches
    pays for its recorder alone. Rows are made as plain tuples, which the recorder keeps; whoever else listens is told named ones.
    """

    span: Tell
    arrival: Tell
    evaluation: Tell
    read: Tell
    sent: Tell
    arriving: Tell
    acted: Tell
    lost: Tell
    crashed: Tell
    turn: Tell

    def __init__(self, recorder: Recorder) -> None:
        self._listening: dict[str, list[Tell]] = {event: [] for event in EVENTS}
        self._row_types = recorder.row_types
        for event in EVENTS:
            setattr(self, event, nobody)
        for event in self._row_types:
            self._add(event, getattr(recorder, event))

    def add(self, observer: object) -> None:
        """From now on ``observer`` is told what it has methods for."""
        for event in EVENTS:
            tell = getattr(observer, event, None)
            if tell is not None:
                self._add(event, _named(tell, self._row_types[event]) if event in self._row_types else tell)

    def _add(self, event: str, tell: Tell) -> None:
        listening = self._listening[event]
        listening.append(tell)
        setattr(self, event, tell if len(listening) == 1 else _all(listening))


def nobody(*what: Any) -> None:
    """Nobody listens."""


def _named(tell: Tell, row_type: Any) -> Tell:
    make = row_type._make

    def tell_named(row: tuple[Any, ...]) -> None:
        tell(make(row))

    return tell_named


def _all(listening: list[Tell]) -> Tell:
    def tell(*what: Any) -> None:
        for each in listening:
            each(*what)

    return tell
