"""Read traces of real systems: measured durations by worker, or the times at which workers were available."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from asyncsim.cluster.columns import Rows, Unusable, read_rows
from asyncsim.cluster.delays import MAX_SECONDS
from asyncsim.cluster.recordings import EVENT_COLUMNS, kinds_of, read_content, truths_of
from asyncsim.errors import UserError
from asyncsim.records.rows import EVENT_KINDS
from asyncsim.units import NANOSECONDS

Span = Literal["compute", "download", "upload"]


class Trace(NamedTuple):
    """A trace as arrays. ``parts[name][worker]`` has shape ``(rows,)``: float64 seconds, in the file's order.

    A trace of durations has one part, named after the kind of span that it holds; a trace of availability has the parts
    ``up`` and ``down``. Where the file does not name workers there is one worker, called None.
    """

    path: Path
    sha256: str
    parts: dict[str, dict[Any, np.ndarray]]
    left_out: int
    """Number of spans that were not used because their end was not observed: they were cut short, or still went on when the
    trace ended."""

    @property
    def availability(self) -> bool:
        return "up" in self.parts


def read_trace(path: str | Path, column: str = "seconds", worker: str = "worker", span: Span = "compute") -> Trace:
    """Read a trace from CSV, Parquet or JSON Lines (.jsonl, .ndjson), or from a run's folder.

    What it is follows from its columns. With ``start_ns`` and ``end_ns`` it is the events of a run, of which those are read
    whose kind is ``span``. With ``start`` and ``end``, or with ``time`` and ``event``, it is a trace of availability.
    Otherwise the durations are those of the column ``column``. A column ``worker`` is optional, except in events.

    Raises:
        UserError: the file cannot be used; the message names file, line, column and value, and what is allowed.
    """
    try:
        path, content = read_content(Path(path).expanduser())
        rows = read_rows(path, content)
        parts, left_out = _parts(rows, column, worker, span)
    except Unusable as error:
        raise UserError(str(error)) from None
    for name, workers in parts.items():
        total = sum(len(values) for values in workers.values())
        if not total:
            raise UserError(f"{path}: there is no whole {_called(name)} in it; needed is at least one")
        zero = [label for label, values in workers.items() if not values.any()]
        if len(zero) == len(workers) or (zero and name == span):
            whose = "" if zero[0] is None else f" of worker {zero[0]}"
            raise UserError(f"{path}: every {_called(name)}{whose} is 0 s; needed is at least one above 0")
    return Trace(path, hashlib.sha256(content).hexdigest(), parts, left_out)


def _called(name: str) -> str:
    return f"{name} time" if name in ("up", "down") else f"duration of kind `{name}`"


def _parts(rows: Rows, column: str, worker: str, span: Span) -> tuple[dict[str, dict[Any, np.ndarray]], int]:
    names = rows.columns
    if "start_ns" in names and "end_ns" in names:
        return _from_events(rows, span)
    if column not in names and {"start", "end"} <= set(names):
        return _from_intervals(rows, worker)
    if column not in names and {"time", "event"} <= set(names):
        return _from_changes(rows, worker)
    seconds = rows.numbers(column, "column", f"a duration; allowed is {_RANGE}", _in_range)
    labels = _labels(rows, worker)
    if "kind" in names:
        chosen = kinds_of(rows) == EVENT_KINDS.index(span)
        seconds, labels = seconds[chosen], labels[chosen]
    return {span: _by_worker(labels, seconds.astype(np.float64))}, 0


def _from_events(rows: Rows, span: Span) -> tuple[dict[str, dict[Any, np.ndarray]], int]:
    """Durations from a run's events. Spans that were cut short are left out, since their whole duration is not known."""
    for name in EVENT_COLUMNS:
        rows.column(name, "file")
    workers, start, end = (rows.whole(name, "file") for name in ("worker", "start_ns", "end_ns"))
    _refuse_backwards(rows, start, end, "ns")
    chosen = kinds_of(rows) == EVENT_KINDS.index(span)
    whole = chosen & truths_of(rows)
    return {span: _by_worker(workers[whole], (end - start)[whole] / NANOSECONDS)}, int((chosen & ~whole).sum())


def _from_intervals(rows: Rows, worker: str) -> tuple[dict[str, dict[Any, np.ndarray]], int]:
    """Availability from rows that each give a time span in which a worker was up; it was down from the end of one to the start
    of the next."""
    start, end = (rows.numbers(name, "file", f"a time; allowed is {_RANGE}", _in_range) for name in ("start", "end"))
    _refuse_backwards(rows, start, end, "s")
    up, down = {}, {}
    for label, mine in _places(_labels(rows, worker)).items():
        mine = mine[np.argsort(start[mine], kind="stable")]
        gaps = start[mine][1:] - end[mine][:-1]
        if (gaps < 0).any():
            late = mine[1:][gaps < 0][0]
            raise Unusable("file", f"{rows.where(int(late))}: starts at {start[late]:g} s, before the one before it has ended"
                           + (f" (worker {label})" if label is not None else ""))  # fmt: skip
        up[label], down[label] = (end - start)[mine], gaps
    return {"up": up, "down": down}, 0


def _from_changes(rows: Rows, worker: str) -> tuple[dict[str, dict[Any, np.ndarray]], int]:
    """Availability from rows that each give the moment at which a worker came up or went down. The last state of a worker has
    no known end and is left out."""
    time = rows.numbers("time", "file", f"a time; allowed is {_RANGE}", _in_range)
    cells = rows.column("event", "file")
    for index, cell in enumerate(cells):
        if cell not in ("up", "down"):
            raise Unusable("file", f"{rows.where(index)}, column 'event': {cell!r} is neither up nor down")
    comes = np.array([cell == "up" for cell in cells], bool)
    up, down = {}, {}
    places = _places(_labels(rows, worker))
    for label, mine in places.items():
        mine = mine[np.argsort(time[mine], kind="stable")]
        twice = comes[mine][1:] == comes[mine][:-1]
        if twice.any():
            index = int(mine[1:][twice][0])
            raise Unusable("file", f"{rows.where(index)}: a second {cells[index]!r} in a row"
                           + (f" of worker {label}" if label is not None else "")
                           + "; allowed are up and down in turn")  # fmt: skip
        spans, states = np.diff(time[mine]), comes[mine][:-1]
        up[label], down[label] = spans[states], spans[~states]
    return {"up": up, "down": down}, len(places)


_RANGE = f"a number of seconds from 0 to {MAX_SECONDS:g}"


def _in_range(values: np.ndarray) -> np.ndarray:
    return (values >= 0) & (values <= MAX_SECONDS)


def _refuse_backwards(rows: Rows, start: np.ndarray, end: np.ndarray, unit: str) -> None:
    backwards = end < start
    if backwards.any():
        index = int(backwards.argmax())
        raise Unusable("file", f"{rows.where(index)}: ends at {end[index]} {unit}, before it starts at {start[index]} {unit}")


def _labels(rows: Rows, worker: str) -> np.ndarray:
    """The column of workers: as whole numbers where all of them are, otherwise as text. Without such a column it is None for
    every row."""
    count = len(next(iter(rows.columns.values()), ()))
    if worker not in rows.columns:
        if worker != "worker":
            rows.column(worker, "worker")
        return np.full(count, None)
    cells = rows.columns[worker]
    try:
        return rows.whole(worker, "worker")
    except Unusable:
        words = np.array(["" if cell is None or cell != cell else str(cell).strip() for cell in cells], object)
    empty = words == ""
    if empty.any():
        raise Unusable("file", f"{rows.where(int(empty.argmax()))}, column {worker!r}: no worker is named")
    return words


def _places(labels: np.ndarray) -> dict[Any, np.ndarray]:
    """The rows of each worker, in the file's order. Workers are ordered by number, or by name."""
    if len(labels) and labels[0] is None:
        return {None: np.arange(len(labels))}
    found, numbers = np.unique(labels, return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    edges = np.searchsorted(numbers[order], np.arange(1, len(found)))
    return dict(zip(found.tolist(), np.split(order, edges), strict=True)) if len(found) else {}


def _by_worker(labels: np.ndarray, values: np.ndarray) -> dict[Any, np.ndarray]:
    return {label: values[mine] for label, mine in _places(labels).items()}
