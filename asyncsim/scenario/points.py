"""The section ``sweep``: fields and values as points. ``grid`` is a product, ``zip`` goes together, ``list`` is explicit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, model_validator

from asyncsim.registry import Problem, Spec, located
from asyncsim.scenario.problems import Problems, said, shown
from asyncsim.scenario.yaml_text import Location

MOST_RUNS = 100_000
MOST_SEEDS = 10_000
RESERVED = {
    "seed": "`seeds` is for that",
    "seeds": "`sweep.seeds` is for that",
    "name": "runs are named by their point",
    **dict.fromkeys(("variants", "sweep", "tune", "baseline", "atlas"), "it describes several runs"),
}


def _checked_seeds(seeds: Any) -> Any:
    numbers = seeds if isinstance(seeds, list) else [seeds]
    right = all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 2**63 for each in numbers)
    if right and 1 <= (len(seeds) if isinstance(seeds, list) else seeds) <= MOST_SEEDS and len(set(numbers)) == len(numbers):
        return seeds
    raise ValueError(f"must be a count from 1 to {MOST_SEEDS:,} or a list of different whole numbers (it is {shown(seeds)})")


def _checked_axes(data: Any, info: ValidationInfo) -> dict[str, list[Any]]:
    """Fields and their values, without nesting."""
    if not isinstance(data, Mapping) or not data:
        example = f"`{info.field_name}: {{cluster.workers: [1, 4, 16]}}`"
        raise ValueError(f"must map fields to lists, such as {example} (it is {shown(data)})")
    axes: dict[str, list[Any]] = {}
    problems: list[Problem] = []
    for path, values in _flat(data, (), lists=True):
        field = ".".join(path)
        problems += _reserved(field, path, values)
        if field in axes:
            problems.append((path, values, f"`{field}` is given twice"))
        elif not isinstance(values, list) or not values:
            problems.append((path, values, f"must be a list of at least one value, in brackets (it is {shown(values)})"))
        else:
            axes[field] = values
            problems += _doubles(values, path) if info.field_name == "grid" else ()
    if problems:
        raise located("sweep", problems)
    return axes


def _checked_points(data: Any) -> list[dict[str, Any]]:
    """Points as fields and their values, without nesting."""
    if not isinstance(data, list) or not data:
        raise ValueError(f"must be a list of points, such as `[{{cluster.workers: 4}}]` (it is {shown(data)})")
    points: list[dict[str, Any]] = []
    problems: list[Problem] = []
    for index, entry in enumerate(data):
        if not isinstance(entry, Mapping) or not entry:
            message = f"must map fields to values, such as `{{cluster.workers: 4}}` (it is {shown(entry)})"
            problems.append(((index,), entry, message))
            continue
        point: dict[str, Any] = {}
        for path, value in _flat(entry, (), lists=False):
            field = ".".join(path)
            problems += _reserved(field, (index, *path), value)
            point[field] = value
        if sorted(map(repr, point.items())) in [sorted(map(repr, other.items())) for other in points]:
            problems.append(((index,), entry, "is the same point as one before; leave one out"))
        points.append(point)
    if problems:
        raise located("sweep", problems)
    return points


def _reserved(field: str, path: Location, value: Any) -> Iterator[Problem]:
    top = field.partition(".")[0]
    if top in RESERVED:
        yield path, value, f"`{top}` cannot be swept: {RESERVED[top]}"


def _doubles(values: list[Any], path: Location) -> Iterator[Problem]:
    seen: set[str] = set()
    for index, value in enumerate(values):
        if repr(value) in seen:
            yield (*path, index), value, f"{shown(value)} is listed twice; leave one out"
        seen.add(repr(value))


_Count = Annotated[int, Field(ge=1, le=MOST_SEEDS)]
_Chosen = Annotated[list[Annotated[int, Field(ge=0, lt=2**63)]], Field(min_length=1, max_length=MOST_SEEDS)]
_Axis = Annotated[list[Any], Field(min_length=1)] | dict[str, Any]  # a mapping: the fields of a section, each with its list
_Points = list[Annotated[dict[str, Any], Field(min_length=1)]]

Seeds = Annotated[_Count | _Chosen, BeforeValidator(_checked_seeds)]
"""A count of seeds, from the scenario's ``seed`` on, or a list of them."""
Axes = Annotated[dict[str, _Axis], Field(min_length=1), BeforeValidator(_checked_axes)]
"""Fields (dotted, or nested) and the list of values of each."""
Listed = Annotated[_Points, Field(min_length=1), BeforeValidator(_checked_points)]
"""Points, each a mapping from fields to values."""


class Sweep(Spec):
    """Fields and their values: ``grid`` is a product, ``zip`` goes together, ``list`` is explicit points; each is run with all
    ``seeds``."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    grid: Axes | None = None
    zip: Axes | None = None
    list: Listed | None = None
    seeds: Seeds | None = None

    @model_validator(mode="before")
    @classmethod
    def _something(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data:
            return data
        example = "`sweep: {grid: {cluster.workers: [1, 4, 16]}, seeds: 3}`"
        raise ValueError(f"must be a mapping with some of {', '.join(cls.model_fields)}, such as {example} (it is {shown(data)})")


class Point(NamedTuple):
    """One combination of swept values; ``lines`` says where in the file each stands, ``given`` which came on the command line."""

    values: dict[str, Any] = {}  # noqa: RUF012
    lines: dict[str, int] = {}  # noqa: RUF012
    given: tuple[str, ...] = ()


class _Value(NamedTuple):
    field: str
    value: Any
    line: int | None  # None: from the command line, or the format has no lines


def given_sweep(given: Mapping[str, Any], problems: Problems) -> Sweep | None:
    """``grid``, ``zip`` and ``seeds`` of the command line; None if there are none, or if they are wrong."""
    given = {key: value for key, value in given.items() if value not in (None, {})}
    try:
        return Sweep.model_validate(given) if given else None
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            key, *field = problem["loc"]
            problems.wrong((f"--{key}", field[0] if field else shown(given[str(key)])), said(problem))
        return None


def expand_points(section: Sweep | None, given: Sweep | None, problems: Problems) -> list[Point]:
    """All points, in the file's order: the first field of the grid changes most slowly, then come zip and list. ``given`` are
    ``grid`` and ``zip`` of the command line; they replace the file's values of a field, or add to it."""
    before = len(problems.lines)
    grid, zipped = _axes("grid", section, given, problems), _axes("zip", section, given, problems)
    listed = _listed(section, problems)
    _distinct_fields(grid, zipped, listed, problems)
    lengths = {field: len(values) for field, values in zipped.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{field} has {length}" for field, length in lengths.items())
        problems.wrong(("sweep", "zip"), f"fields that go together need equally many values; {told}")
    total = math.prod(map(len, grid.values())) * max(1, *lengths.values(), 1) * max(1, len(listed))
    if total > MOST_RUNS:
        problems.wrong(("sweep",), f"describes {total:,} points; at most {MOST_RUNS:,} are allowed")
    if len(problems.lines) > before:  # what its points would be is not known
        return [Point()]
    together = [list(row) for row in zip(*zipped.values(), strict=True)] if zipped else [[]]
    rows = [[*combined, *row, *entry] for combined in product(*grid.values()) for row in together for entry in listed]
    on_line = {*(given.grid or ()), *(given.zip or ())} if given else set()
    return [
        Point(
            {entry.field: entry.value for entry in row},
            {entry.field: entry.line for entry in row if entry.line is not None},
            tuple(entry.field for entry in row if entry.field in on_line),
        )
        for row in rows
    ]


def point_label(values: Mapping[str, Any], fields: list[str]) -> str:
    """``workers=4,lr=0.1``: fit for a file's name. ``fields`` are all that are swept."""
    words = []
    for field, value in values.items():
        last = field.rpartition(".")[2]
        short = last if sum(other.rpartition(".")[2] == last for other in fields) == 1 else field
        if isinstance(value, Mapping):
            value = value.get("kind", "-".join(f"{key}-{part}" for key, part in value.items()))
        words.append(f"{short}={re.sub(r'[^A-Za-z0-9_.+-]+', '-', str(value)).strip('-') or '-'}")
    return ",".join(words)


def _axes(key: str, section: Sweep | None, given: Sweep | None, problems: Problems) -> dict[str, list[_Value]]:
    """The swept fields under ``grid`` or ``zip``: each with its values."""
    written: Mapping[str, Any] = (getattr(section, key) if section else None) or {}
    lines = _lines(problems) if written else {}
    axes = {
        field: [_Value(field, value, _line(lines, f"{key}.{field}.{index}")) for index, value in enumerate(values)]
        for field, values in written.items()
    }
    asked: Mapping[str, Any] = (getattr(given, key) if given else None) or {}
    return axes | {field: [_Value(field, value, None) for value in values] for field, values in asked.items()}


def _listed(section: Sweep | None, problems: Problems) -> list[list[_Value]]:
    written = (section.list if section else None) or [{}]
    lines = _lines(problems) if section else {}
    return [
        [_Value(field, value, _line(lines, f"list.{index}.{field}")) for field, value in entry.items()]
        for index, entry in enumerate(written)
    ]


def _distinct_fields(grid: Mapping[str, Any], zipped: Mapping[str, Any], listed: list[list[_Value]], problems: Problems) -> None:
    """No field twice, and none inside another one."""
    parts = {"grid": list(grid), "zip": list(zipped), "list": list(dict.fromkeys(v.field for row in listed for v in row))}
    seen: dict[str, str] = {}
    for key, fields in parts.items():
        for field in fields:
            for other, where in seen.items():
                if other == field:
                    problems.wrong(("sweep", key, field), f"`{field}` is swept under `{where}` too; keep one")
                elif (other + ".").startswith(field + ".") or (field + ".").startswith(other + "."):
                    problems.wrong(("sweep", key, field), f"`{field}` and `{other}` overlap; sweep one of them")
            seen.setdefault(field, key)


def _flat(data: Mapping[Any, Any], place: tuple[str, ...], lists: bool) -> Iterator[tuple[tuple[str, ...], Any]]:
    """(place in the document, value) of every field; nested mappings are walked, up to lists or up to a ``kind``."""
    for key, value in data.items():
        if isinstance(value, Mapping) and value and (lists or "kind" not in value):
            yield from _flat(value, (*place, str(key)), lists)
        else:
            yield (*place, str(key)), value


def _lines(problems: Problems) -> dict[str, int]:
    """The lines of the section by dotted paths within it, which are the same for nested and for dotted fields."""
    lines = problems.document.lines
    return {".".join(map(str, place[1:])): line for place, line in lines.items() if place[:1] == ("sweep",)}


def _line(lines: Mapping[str, int], path: str) -> int | None:
    """The line of a place, or of the nearest one around it that has one."""
    while path and path not in lines:
        path = path.rpartition(".")[0]
    return lines.get(path)
