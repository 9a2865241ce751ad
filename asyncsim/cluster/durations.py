"""Measured durations from a file: which columns hold them, in which unit, and whose they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np

from asyncsim.cluster.columns import Rows
from asyncsim.cluster.delays import MAX_SECONDS
from asyncsim.cluster.files import Unusable
from asyncsim.cluster.instants import PER_UNIT
from asyncsim.cluster.spans import EVENT_COLUMNS, kinds_of, spans, truths_of
from asyncsim.records.rows import EVENT_KINDS
from asyncsim.units import NANOSECONDS, TICK

Span = Literal["compute", "download", "upload"]
Unit = Literal["ns", "us", "ms", "s", "min", "h"]
T = TypeVar("T", float, np.ndarray)
Times = Literal["durations", "stamps", "intervals"]
PLURAL = {"ns": "nanoseconds", "us": "microseconds", "ms": "milliseconds", "s": "seconds", "min": "minutes", "h": "hours"}
_WORDS: dict[str, Unit] = {
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), "ns"),
    **dict.fromkeys(("us", "µs", "μs", "usec", "micros", "microsecond", "microseconds"), "us"),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), "ms"),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), "s"),
    **dict.fromkeys(("mins", "minute", "minutes"), "min"),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), "h"),
}  # `min` is left out: it may be a minimum


class Layout(NamedTuple):
    """The meaning of the columns of a file.

    ``times`` says what they hold: `durations` in ``column``; `stamps`, which are moments in ``column``, where a duration is
    the time since the row before of the same worker; or `intervals`, which are moments in the columns `start` and `end`.
    Moments are dates or numbers. ``unit`` is that of numbers; with None it is taken from the column's name. ``span`` says
    which rows count, where there is a column `kind` or the file holds the events of a run.
    """

    column: str = "seconds"
    worker: str = "worker"
    span: Span = "compute"
    times: Times = "durations"
    unit: Unit | None = None


class Durations(NamedTuple):
    """Durations as they were read, in the order of the file. ``ticks`` (int64 nanoseconds), ``seconds`` (float64) and
    ``workers`` (numbers or names, or None for all) have shape ``(rows,)``.

    ``zero`` is the place of the first duration of 0 s. ``left_out`` counts spans whose end was not observed. ``said`` tells
    in words how the file was read.
    """

    ticks: np.ndarray
    seconds: np.ndarray
    workers: np.ndarray
    zero: str | None
    left_out: int
    said: str


def read_durations(rows: Rows, layout: Layout) -> Durations:
    """Read the durations in a file.

    Raises:
        Unusable: the file cannot be used; the message names file, line, column and value, and what is allowed.
    """
    if holds_events(rows, layout):
        return _of_events(rows, layout.span)
    workers = names_of(rows, layout.worker)
    counted = np.arange(rows.size)
    if "kind" in rows.columns:
        counted = np.flatnonzero(kinds_of(rows) == EVENT_KINDS.index(layout.span))
    if layout.times == "durations":
        seconds, said = _numbers(rows, layout)
        ticks = np.round(seconds * NANOSECONDS).astype(np.int64)
    else:
        moments = ("start", "end") if layout.times == "intervals" else (layout.column,)
        for name in moments:  # a missing one is said before its unit
            rows.column(name, "file" if layout.times == "intervals" else "column")
        unit, said = unit_of_moments(rows, moments, layout.unit)
        values = rows.moments(moments, "column", unit)
        if layout.times == "intervals":
            start, end = values
            ticks = _spans(rows, start, end, moments)
        else:
            ticks, later = _differences(rows, values[0], workers, counted, layout.column)
            counted = counted[later[counted]]
        said = f"{said}; a duration is {'their difference' if len(moments) > 1 else 'the time since the row before'}"
        seconds = ticks / NANOSECONDS
    zeros = counted[seconds[counted] == 0]
    column = f", column {layout.column!r}" if layout.times == "durations" else ""
    zero = f"{rows.where(int(zeros[0]))}{column}: a duration of 0 s" if len(zeros) else None
    return Durations(ticks[counted], seconds[counted], workers[counted], zero, 0, said)


def in_seconds(values: T, unit: Unit) -> T:
    """Numbers of ``unit`` as seconds, each rounded once."""
    ticks = PER_UNIT[unit]
    return values * (ticks // NANOSECONDS) if ticks >= NANOSECONDS else values / (NANOSECONDS // ticks)


def holds_events(rows: Rows, layout: Layout) -> bool:
    """Is this the table of a run's events? Its times are nanoseconds, and a ``layout`` that says otherwise is refused."""
    found = "start_ns" in rows.columns and "end_ns" in rows.columns
    if found and layout.unit not in (None, "ns"):
        raise Unusable("unit", f"{rows.path} holds the events of a run, in ns; leave `unit` out")
    if found and layout.times == "stamps":
        raise Unusable("times", f"{rows.path} holds the events of a run, which start and end; leave `times` out")
    return found


def names_of(rows: Rows, worker: str) -> np.ndarray:
    """The worker of each row; None for all rows where the file names no workers (and ``worker`` is the default)."""
    if worker not in rows.columns and worker == "worker":
        return np.full(rows.size, None)
    return rows.names(worker, "worker")


def unit_in(name: str) -> Unit | None:
    """The unit that the name of a column tells: `ms` for `step_time_ms`, `time (ms)`, `stepMillis`; None if none or several."""
    bracketed = re.findall(r"[(\[]\s*(\w+)\s*[)\]]", name)
    if bracketed == ["min"]:
        return "min"
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-zµμ]+|[A-Z]+", name)]
    units = {_WORDS[word] for place, word in enumerate(words) if word in _WORDS and (len(word) > 1 or place == len(words) - 1)}
    return units.pop() if len(units) == 1 else None


def refuse_double_conversion(layout: Layout, scale: float) -> None:
    """Refuse a factor where only the column's name tells the unit: the factor may be meant to convert that unit, so the unit
    has to be given."""
    unit = unit_in(layout.column)
    if scale != 1.0 and layout.unit is None and layout.times != "intervals" and unit not in (None, "s"):
        message = f"column {layout.column!r} is in {unit} by its name, and `scale` {scale:g} would come on top"
        raise Unusable("scale", f"{message}; give `unit: {unit}` if that is meant, or leave `scale` out")


def unit_of(rows: Rows, names: Iterable[str], given: Unit | None, otherwise: Unit | None = None) -> tuple[Unit, str]:
    """The unit of columns of numbers, and a sentence about it. It is that of their names, otherwise ``given``, otherwise
    ``otherwise``."""
    names = list(names)
    told = {name: unit for name in names if (unit := unit_in(name)) is not None}
    column = "column " + ", ".join(f"`{name}`" for name in names)
    for name, unit in told.items():
        if given is not None and unit != given:
            raise Unusable("unit", f"{rows.path}: column {name!r} is in {unit} by its name, not in {given}; leave `unit` out, "
                           "or give the column another name")  # fmt: skip
    if len(set(told.values())) > 1:
        raise Unusable("unit", f"{rows.path}: the names of its columns tell different units: {', '.join(told)}")
    if told:
        return next(iter(told.values())), f"{column} in {next(iter(told.values()))}, by its name"
    if given is not None:
        return given, f"{column} in {given}, as `unit` says"
    if otherwise is not None:
        return otherwise, f"{column} in {otherwise}"
    units = ", ".join(PLURAL)
    raise Unusable("unit", f"{rows.path}: the name of column {names[0]!r} does not tell its unit; give `unit`: {units}")


def unit_of_moments(rows: Rows, names: Iterable[str], given: Unit | None) -> tuple[Unit | None, str]:
    """The unit of moments, and a sentence about it; None for dates. Numbers in `start`, `end` and `time` are seconds, unless
    another unit is given."""
    names = list(names)
    dates = [rows.dates(name) for name in names]
    if any(dates):
        if not all(dates):
            raise Unusable("file", f"{rows.path}: of the columns {' and '.join(names)} one holds dates and one numbers")
        if given is not None:
            raise Unusable("unit", f"{rows.path}: column {names[0]!r} holds dates, which need no `unit`; leave it out")
        return None, "column " + ", ".join(f"`{name}`" for name in names) + " as dates"
    return unit_of(rows, names, given, "s" if set(names) <= {"start", "end", "time"} else None)


def _numbers(rows: Rows, layout: Layout) -> tuple[np.ndarray, str]:
    name = layout.column
    if name not in rows.columns and {"start", "end"} <= set(rows.columns):
        hint = "for the time from `start` to `end`, give `times: intervals`"
        raise Unusable("column", f"{rows.path} has no column {name!r}; {hint}")
    cells = rows.column(name, "column")
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "m":  # of Parquet, which knows the unit
        seconds = cells / np.timedelta64(1, "s")
        wrong = ~((seconds >= 0) & (seconds <= MAX_SECONDS))
        if wrong.any():
            raise rows.refuse(int(wrong.argmax()), name, f"a duration; allowed are those from 0 to {MAX_SECONDS:g} s")
        return seconds, f"column `{name}` as durations"
    unit, said = unit_of(rows, [name], layout.unit)
    most = MAX_SECONDS / in_seconds(1.0, unit)
    dates = rows.dates(name)
    allowed = f"a duration; allowed is a number of {PLURAL[unit]} from 0 to {most:g}, at least 1 ns unless it is 0"
    allowed += " (for dates and other time stamps give `times: stamps`)" if dates else ""

    def fits(values: np.ndarray) -> np.ndarray:
        return (values == 0) | ((in_seconds(values, unit) >= TICK) & (values <= most))

    return in_seconds(rows.numbers(name, "column", allowed, fits).astype(np.float64), unit), said


def _spans(rows: Rows, start: np.ndarray, end: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    backwards = end < start
    if backwards.any():
        index = int(backwards.argmax())
        first, last = (rows.columns[name][index] for name in names)
        raise Unusable("file", f"{rows.where(index)}: ends at {last}, before it starts at {first}")
    return _bounded(rows, [int(b) - int(a) for a, b in zip(start.tolist(), end.tolist(), strict=True)])


def _differences(
    rows: Rows, moments: np.ndarray, workers: np.ndarray, counted: np.ndarray, column: str
) -> tuple[np.ndarray, np.ndarray]:
    """The time from each counted row to the row before of the same worker, and which rows have one."""
    ticks, later = [0] * rows.size, np.zeros(rows.size, bool)
    before: dict[Any, int] = {}  # the moment of the row before, by worker
    for index, worker, now in zip(counted.tolist(), workers[counted].tolist(), moments[counted].tolist(), strict=True):
        if worker in before:
            if now < before[worker]:
                whose = "" if worker is None else f" of worker {worker}"
                message = f"is before the row before{whose}; allowed are time stamps in order"
                raise Unusable("file", f"{rows.where(index)}, column {column!r}: {message}")
            ticks[index], later[index] = now - before[worker], True
        before[worker] = now
    return _bounded(rows, ticks), later


def _bounded(rows: Rows, ticks: list[int]) -> np.ndarray:
    for index, each in enumerate(ticks):
        if each > MAX_SECONDS * NANOSECONDS:
            raise Unusable("file", f"{rows.where(index)}: lasts {each / NANOSECONDS:g} s; allowed are up to {MAX_SECONDS:g} s")
    return np.array(ticks, np.int64)


def _of_events(rows: Rows, span: Span) -> Durations:
    """Durations from a run's events. Spans that were cut short are left out, since their whole duration is not known."""
    for name in EVENT_COLUMNS:
        rows.column(name, "file")
    workers = rows.whole("worker", "file")
    chosen = kinds_of(rows) == EVENT_KINDS.index(span)
    whole = chosen & truths_of(rows)
    ticks = spans(rows, span)[whole]
    said = f"spans of kind `{span}` among the events of a run"
    return Durations(ticks, ticks / NANOSECONDS, workers[whole], None, int((chosen & ~whole).sum()), said)
