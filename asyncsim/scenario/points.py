"""The section ``sweep`` as a list of points: ``grid`` takes all combinations, ``zip`` takes values together, ``list`` gives
points explicitly."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

from asyncsim.errors import UserError, nearest
from asyncsim.scenario.document import Document, parse_value
from asyncsim.scenario.problems import shown

MOST_RUNS = 100_000
KEYS = ("grid", "zip", "list", "seeds")
RESERVED = {
    "seed": "`seeds` is for that",
    "seeds": "`sweep.seeds` is for that",
    "name": "runs are named by their point",
    **dict.fromkeys(("variants", "sweep", "tune", "baseline"), "it describes several runs"),
}

Wrong = Callable[[tuple[str, ...], str], None]
"""A function that is told of a problem: its place in the document, and the message."""


class Point(NamedTuple):
    """One combination of swept values. ``lines`` gives the line of each in the file; ``given`` names those from the command
    line."""

    values: dict[str, Any] = {}  # noqa: RUF012
    lines: dict[str, int] = {}  # noqa: RUF012
    given: tuple[str, ...] = ()


class _Value(NamedTuple):
    field: str
    value: Any
    line: int | None  # None: from the command line, or the format has no lines


def expand_points(section: Any, given: Mapping[str, Any], document: Document, tell: Wrong) -> list[Point]:
    """All points of a ``sweep`` section, in the file's order: the first field of the grid changes most slowly, then come zip and
    list. ``given`` are ``grid`` and ``zip`` of the command line; they replace the file's values of a field, or add to it."""
    if section is not None and (not isinstance(section, Mapping) or not section):
        example = "`sweep: {grid: {cluster.workers: [1, 4, 16]}, seeds: 3}`"
        tell(("sweep",), f"must be a mapping with some of {', '.join(KEYS)}, such as {example} (it is {shown(section)})")
        return [Point()]
    section = section or {}
    problems: list[tuple[str, ...]] = []

    def wrong(place: tuple[str, ...], message: str) -> None:
        problems.append(place)
        tell(place, message)

    for key in section:
        if key not in KEYS:
            wrong(("sweep", str(key)), f"unknown field; known are {', '.join(KEYS)}{nearest(str(key), KEYS)}")
    grid = _axes("grid", section, given, document, wrong)
    zipped = _axes("zip", section, given, document, wrong)
    listed = _listed(section.get("list"), document, wrong) if "list" in section else [[]]
    _distinct_fields(grid, zipped, listed, wrong)
    lengths = {field: len(values) for field, values in zipped.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{field} has {length}" for field, length in lengths.items())
        wrong(("sweep", "zip"), f"fields that go together need equally many values; {said}")
    total = math.prod(map(len, grid.values())) * max(1, *lengths.values(), 1) * max(1, len(listed))
    if total > MOST_RUNS:
        wrong(("sweep",), f"describes {total:,} points; at most {MOST_RUNS:,} are allowed")
    if problems:  # its points cannot be known
        return [Point()]
    together = [list(row) for row in zip(*zipped.values(), strict=True)] if zipped else [[]]
    rows = [[*combined, *row, *entry] for combined in product(*grid.values()) for row in together for entry in listed]
    on_line = {*given.get("grid", ()), *given.get("zip", ())}
    return [
        Point(
            {entry.field: entry.value for entry in row},
            {entry.field: entry.line for entry in row if entry.line is not None},
            tuple(entry.field for entry in row if entry.field in on_line),
        )
        for row in rows
    ]


def parse_axes(option: str, assignments: list[str]) -> dict[str, list[Any]]:
    """``["cluster.workers=1,2,4"]`` as ``{"cluster.workers": [1, 2, 4]}``; the values are read as a YAML list."""
    axes: dict[str, list[Any]] = {}
    for assignment in assignments:
        field, equals, text = assignment.partition("=")
        field = field.strip()
        values = parse_value(f"[{text}]") if text.strip() else None
        if not equals or any(not part for part in field.split(".")) or not isinstance(values, list):
            raise UserError(f"{option} {assignment}: must be field=value,value,..., such as {option} cluster.workers=1,2,4")
        if field in axes:
            raise UserError(f"{option} {assignment}: `{field}` is given twice; give all its values in one {option}")
        axes[field] = values
    return axes


def point_label(values: Mapping[str, Any], fields: list[str]) -> str:
    """A label such as ``workers=4,lr=0.1``, which can be part of a file name. ``fields`` are all swept fields."""
    words = []
    for field, value in values.items():
        last = field.rpartition(".")[2]
        short = last if sum(other.rpartition(".")[2] == last for other in fields) == 1 else field
        if isinstance(value, Mapping):
            value = value.get("kind", "-".join(f"{key}-{part}" for key, part in value.items()))
        words.append(f"{short}={re.sub(r'[^A-Za-z0-9_.+-]+', '-', str(value)).strip('-') or '-'}")
    return ",".join(words)


def _axes(key: str, section: Mapping[str, Any], given: Mapping[str, Any], document: Document, wrong: Wrong) -> Any:
    """The swept fields under ``grid`` or ``zip``: each with its values."""
    axes: dict[str, list[_Value]] = {}
    data = section.get(key)
    if key in section and (not isinstance(data, Mapping) or not data):
        wrong(("sweep", key), f"must map fields to lists, such as `{key}: {{cluster.workers: [1, 4, 16]}}` (it is {shown(data)})")
        data = None
    for path, values in _flat(data or {}, ("sweep", key), lists=True):
        field = _field(path[2:])
        if field in axes:
            wrong(path, f"`{field}` is given twice")
        elif not isinstance(values, list) or not values:
            wrong(path, f"must be a list of at least one value, in brackets (it is {shown(values)})")
        else:
            lines = [_line(document, path, index) for index in range(len(values))]
            axes[field] = [_Value(field, value, line) for value, line in zip(values, lines, strict=True)]
            _no_doubles(values, path, wrong) if key == "grid" else None
    for field, values in given.get(key, {}).items():
        axes[field] = [_Value(field, value, None) for value in values]
        _no_doubles(values, (f"--{key}", field), wrong) if key == "grid" else None
    for field in axes:
        _allowed(field, ("sweep", key, field), wrong)
    return axes


def _listed(data: Any, document: Document, wrong: Wrong) -> list[list[_Value]]:
    if not isinstance(data, list) or not data:
        wrong(("sweep", "list"), f"must be a list of points, such as `[{{cluster.workers: 4}}]` (it is {shown(data)})")
        return [[]]
    points: list[list[_Value]] = []
    seen: set[str] = set()
    for index, entry in enumerate(data):
        place = ("sweep", "list", str(index))
        if not isinstance(entry, Mapping) or not entry:
            wrong(place, f"must map fields to values, such as `{{cluster.workers: 4}}` (it is {shown(entry)})")
            continue
        point = [_Value(_field(path[3:]), value, _line(document, path, None)) for path, value in _flat(entry, place, lists=False)]
        for value in point:
            _allowed(value.field, (*place, value.field), wrong)
        values = repr(sorted((value.field, repr(value.value)) for value in point))
        if values in seen:
            wrong(place, "is the same point as one before; leave one out")
        seen.add(values)
        points.append(point)
    return points or [[]]


def _distinct_fields(grid: Any, zipped: Any, listed: list[list[_Value]], wrong: Wrong) -> None:
    """Complain of a field that is swept twice, or that lies inside another swept field."""
    parts = {"grid": list(grid), "zip": list(zipped), "list": list(dict.fromkeys(v.field for row in listed for v in row))}
    seen: dict[str, str] = {}
    for key, fields in parts.items():
        for field in fields:
            for other, where in seen.items():
                if other == field:
                    wrong(("sweep", key, field), f"`{field}` is swept under `{where}` too; keep one")
                elif (other + ".").startswith(field + ".") or (field + ".").startswith(other + "."):
                    wrong(("sweep", key, field), f"`{field}` and `{other}` overlap; sweep one of them")
            seen.setdefault(field, key)


def _allowed(field: str, place: tuple[str, ...], wrong: Wrong) -> None:
    top = field.partition(".")[0]
    if top in RESERVED:
        wrong(place, f"`{top}` cannot be swept: {RESERVED[top]}")


def _no_doubles(values: list[Any], place: tuple[str, ...], wrong: Wrong) -> None:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if repr(value) in seen:
            wrong((*place, str(index)), f"{shown(value)} is listed twice; leave one out")
        seen.add(repr(value))


def _flat(data: Mapping[Any, Any], place: tuple[str, ...], lists: bool) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(place in the document, value) of every field; nested mappings are walked, up to lists or up to a ``kind``."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value and (lists or "kind" not in value):
            yield from _flat(value, (*place, str(key)), lists)
        else:
            yield (*place, str(key)), value


def _field(path: tuple[str, ...]) -> str:
    return ".".join(path)


def _line(document: Document, path: tuple[str, ...], index: int | None) -> int | None:
    """The line of a value: of the entry of a list, or of the nearest place around it that has one."""
    dotted = tuple(part for name in path for part in name.split("."))  # TOML's lines are by parts
    for place in (path, dotted):
        if index is not None and (*place, str(index)) in document.lines:
            return document.lines[(*place, str(index))]
        if place in document.lines:
            return document.lines[place]
    return next((document.lines[path[:length]] for length in range(len(path), 0, -1) if path[:length] in document.lines), None)
