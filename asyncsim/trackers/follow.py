"""Follow a run's records and tell the trackers about them. Nothing here can change or end the run."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from asyncsim.errors import UserError
from asyncsim.trackers.tracker import Tracker, make_tracker

if TYPE_CHECKING:
    from asyncsim.records.recorder import Recorder
    from asyncsim.records.tables import Table

VARIABLE = "ASYNCSIM_TRACKERS"
"""The environment variable with names of trackers, separated by commas, for runs that are given none, in this process and those
it starts."""

Row = dict[str, Any]
TRAINING = ("staleness", "gap", "penalty", "loss")


class Followers:
    """The trackers of one run, an observer of it. One that raises is named on stderr once and left out from then on.

    An evaluation is passed on when all pushes before it have their losses, so what trackers are told never depends on wall
    time.
    """

    def __init__(self, trackers: Sequence[Tracker | str] | None) -> None:
        if trackers is None:
            trackers = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
        self.trackers: list[Tracker] = [make_tracker(each) if isinstance(each, str) else each for each in trackers]
        self._recorder: Recorder | None = None
        self._metrics = 0  # rows told
        self._updates = 0  # rows summed up
        self._sums: dict[str, list[float]] = {}

    def start(self, manifest: Mapping[str, Any], recorder: Recorder) -> None:
        """A run begins, whose tables fill in ``recorder``."""
        self._recorder = recorder
        self._tell("start", manifest)

    def turn(self, now: int) -> None:
        """The run pauses between two events: tell what is new. Nearly always there is nothing."""
        self._look()

    def _look(self, last: bool = False) -> None:
        recorder = self._recorder
        if not self.trackers or recorder is None or len(recorder.metrics) == self._metrics:
            return
        for row in list(_rows(recorder.metrics, self._metrics)):
            if not (self._gather(recorder.updates, row["version"]) or last):
                return
            self._metrics += 1
            values = {name: row[name] for name in row if name not in ("time_ns", "version", "pushes")}
            values |= {name: sum(seen) / len(seen) for name, seen in self._sums.items() if seen}
            self._sums = {}
            told = {name: float(value) for name, value in values.items() if value - value == 0}
            self._tell("log", told, row["time_ns"] / 1e9, int(row["version"]))

    def finish(self, summary: Mapping[str, Any], whole: bool = True) -> None:
        """The run is over, or not ``whole`` and ended early."""
        if whole:
            self._look(last=True)
        self._tell("finish", summary)

    def _gather(self, updates: Table, version: int) -> bool:
        """Sum up the pushes up to ``version``; False if there may be more of them, or if a loss is still to come."""
        if not updates.keep:
            return True
        for row in _rows(updates, self._updates):
            if row["version"] > version:
                return True
            if getattr(row["loss"], "pending", False):
                return False
            self._updates += 1
            for name in TRAINING:
                value = float(row[name])
                if value - value == 0:
                    self._sums.setdefault(name, []).append(value)
        return False

    def _tell(self, what: str, *arguments: Any) -> None:
        for tracker in list(self.trackers):
            try:
                getattr(tracker, what)(*arguments)
            except Exception as error:  # whatever it is, the run goes on
                self.trackers.remove(tracker)
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                print(f"asyncsim: {type(tracker).__name__} failed and is left out from here on: {reason}", file=sys.stderr)


@contextmanager
def following(names: Sequence[str]) -> Iterator[None]:
    """Context in which runs of this process, and of those that it starts, tell these trackers. Raises ``UserError`` if one of
    them is not available."""
    for name in names:
        make_tracker(name)
        if "," in name:
            raise UserError(f"tracker {name!r}: a place with a comma in its name is not possible")
    before = os.environ.get(VARIABLE)
    if names:
        os.environ[VARIABLE] = ",".join(names)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = before


def _rows(table: Table, first: int) -> Iterator[Row]:
    """The rows of a table from number ``first`` on, sealed or not."""
    base = 0
    for segment in table.segments:
        length = len(next(iter(segment.values())))
        for index in range(max(0, first - base), length):
            yield {name: column[index].item() for name, column in segment.items()}
        base += length
    for row in table.rows[max(0, first - base) :]:
        yield dict(zip(table.columns, row, strict=True))
