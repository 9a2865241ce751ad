"""Read traces of real systems: measured durations by worker, or the times at which workers were available."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asyncsim.cluster.columns import Rows
from asyncsim.cluster.durations import Layout, Unit, holds_events, names_of, read_durations, unit_of_moments
from asyncsim.cluster.files import Unusable, resolved
from asyncsim.cluster.parsing import read_rows
from asyncsim.cluster.recordings import read_content
from asyncsim.errors import UserError
from asyncsim.units import NANOSECONDS


class Trace(NamedTuple):
    """A trace as arrays. ``parts[name][worker]`` has shape ``(rows,)``: float64 seconds, in the file's order.

    A trace of durations has one part, named after the kind of span that it holds; a trace of availability has the parts
    ``up`` and ``down``. Where the file names no workers there is one worker, called None. ``said`` tells how the file was
    read, units included.
    """

    path: Path
    sha256: str
    parts: dict[str, dict[Any, np.ndarray]]
    left_out: int
    """Number of spans that were not used because their end was not observed: they were cut short, or still went on when the
    trace ended."""
    said: str

    @property
    def availability(self) -> bool:
        return "up" in self.parts


def read_trace(path: str | Path, layout: Layout | None = None) -> Trace:
    """Read a trace from CSV, Parquet or JSON Lines (.jsonl, .ndjson), or from a run's folder.

    What it is follows from its columns. With ``start_ns`` and ``end_ns`` it is the events of a run, of which those are read
    whose kind is the layout's span. With ``start`` and ``end`` (unless the layout says that its times are intervals), or
    with ``time`` and ``event``, it is a trace of availability. Otherwise it is a trace of durations, as the ``layout`` says.
    Workers are optional, except in events.

    Raises:
        UserError: the file cannot be used; the message names file, line, column and value, and what is allowed.
    """
    layout = layout or Layout()
    try:
        path, content = read_content(resolved(path))
        rows = read_rows(path, content)
        parts, left_out, said = _parts(rows, layout)
    except Unusable as error:
        raise UserError(str(error)) from None
    for name, workers in parts.items():
        total = sum(len(values) for values in workers.values())
        if not total:
            raise UserError(f"{path}: there is no whole {_called(name)} in it; needed is at least one")
        zero = [label for label, values in workers.items() if not values.any()]
        if len(zero) == len(workers) or (zero and name == layout.span):
            whose = "" if zero[0] is None else f" of worker {zero[0]}"
            raise UserError(f"{path}: every {_called(name)}{whose} is 0 s; needed is at least one above 0")
    return Trace(path, hashlib.sha256(content).hexdigest(), parts, left_out, said)


def _called(name: str) -> str:
    return f"{name} time" if name in ("up", "down") else f"duration of kind `{name}`"


def _parts(rows: Rows, layout: Layout) -> tuple[dict[str, dict[Any, np.ndarray]], int, str]:
    names = rows.columns
    plain = layout.times == "durations" and layout.column not in names and not holds_events(rows, layout)
    if plain and {"start", "end"} <= set(names):
        return _from_intervals(rows, layout.worker, layout.unit)
    if plain and {"time", "event"} <= set(names):
        return _from_changes(rows, layout.worker, layout.unit)
    read = read_durations(rows, layout)
    if layout.span == "compute" and read.zero:
        raise Unusable("file", f"{read.zero}; allowed are those above 0")
    return {layout.span: _by_worker(read.workers, read.seconds)}, read.left_out, read.said


def _from_intervals(rows: Rows, worker: str, unit: Unit | None) -> tuple[dict[str, dict[Any, np.ndarray]], int, str]:
    """Availability from rows that each give a time span in which a worker was up; it was down from the end of one to the start
    of the next."""
    unit, said = unit_of_moments(rows, ("start", "end"), unit)
    start, end = rows.moments(("start", "end"), "file", unit)
    backwards = end < start
    if backwards.any():
        index = int(backwards.argmax())
        raise Unusable("file", f"{rows.where(index)}: ends at {rows.columns['end'][index]}, before it starts at "
                       f"{rows.columns['start'][index]}")  # fmt: skip
    up, down = {}, {}
    for label, mine in _places(names_of(rows, worker)).items():
        mine = mine[np.argsort(start[mine], kind="stable")]
        gaps = (start[mine][1:] - end[mine][:-1]) / NANOSECONDS
        if (gaps < 0).any():
            late = mine[1:][gaps < 0][0]
            raise Unusable("file", f"{rows.where(int(late))}: starts at {rows.columns['start'][late]}, before the one before it "
                           "has ended" + (f" (worker {label})" if label is not None else ""))  # fmt: skip
        up[label], down[label] = (end - start)[mine] / NANOSECONDS, gaps
    return {"up": up, "down": down}, 0, f"{said}: when workers were there"


def _from_changes(rows: Rows, worker: str, unit: Unit | None) -> tuple[dict[str, dict[Any, np.ndarray]], int, str]:
    """Availability from rows that each give the moment at which a worker came up or went down. The last state of a worker has
    no known end and is left out."""
    unit, said = unit_of_moments(rows, ("time",), unit)
    (time,) = rows.moments(("time",), "file", unit)
    cells = rows.column("event", "file")
    for index, cell in enumerate(cells):
        if cell not in ("up", "down"):
            raise Unusable("file", f"{rows.where(index)}, column 'event': {cell!r} is neither up nor down")
    comes = np.array([cell == "up" for cell in cells], bool)
    up, down = {}, {}
    places = _places(names_of(rows, worker))
    for label, mine in places.items():
        mine = mine[np.argsort(time[mine], kind="stable")]
        twice = comes[mine][1:] == comes[mine][:-1]
        if twice.any():
            index = int(mine[1:][twice][0])
            raise Unusable("file", f"{rows.where(index)}: a second {cells[index]!r} in a row"
                           + (f" of worker {label}" if label is not None else "")
                           + "; allowed are up and down in turn")  # fmt: skip
        spans, states = np.diff(time[mine]) / NANOSECONDS, comes[mine][:-1]
        up[label], down[label] = spans[states], spans[~states]
    return {"up": up, "down": down}, len(places), f"{said}: when workers came up and went down"


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
