"""Scenario files as plain data that remembers its line numbers: YAML 1.2, TOML and JSON."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError, printable
from asyncsim.scenario.plain import NotPlain, plain
from asyncsim.scenario.yaml_text import Location, compose, lines_of, read_yaml
from asyncsim.userfiles import MEGABYTE, MOST_DEPTH, number_problem, read_text

MOST_BYTES = MEGABYTE
_LONG_KEY = re.compile(rf"(?:\.[ \t]*[\w\"'-]+[ \t]*){{{MOST_DEPTH},}}[=\]]")
_LONG_ROW = 1_000  # characters in which a key is looked for


@dataclass(frozen=True)
class Document:
    """The ``data`` of a file. ``lines`` gives the line (from 1) of every place in it, as far as the format tells."""

    data: dict[str, Any]
    source: str
    lines: Mapping[Location, int] = field(default_factory=dict)

    @cached_property
    def own_lines(self) -> dict[Location, int]:
        """The lines of the scenario itself: without those of the sections that make several of it."""
        several = ("variants", "sweep", "advise", "atlas")
        return {place: line for place, line in self.lines.items() if not place or place[0] not in several}

    @cached_property
    def under(self) -> dict[Location, dict[Location, int]]:
        """The lines by the first two parts of their places: those of each variant, for one."""
        found: dict[Location, dict[Location, int]] = {}
        for place, line in self.lines.items():
            found.setdefault(place[:2], {})[place] = line
        return found

    def where(self, location: Location) -> str:
        """``file:line`` of a place in the data, or of the nearest place around it whose line is known."""
        location = tuple(str(part) for part in location)
        for length in range(len(location), 0, -1):
            if location[:length] in self.lines:
                return f"{self.source}:{self.lines[location[:length]]}"
        return self.source


def read_document(path: str | Path) -> Document:
    """Read a scenario file, in the format that its ending tells.

    Raises ``UserError``, naming file and line, if it cannot be read, is not valid, or has a key twice.
    """
    path = Path(path)
    readers = {".yaml": read_yaml, ".yml": read_yaml, ".json": _json, ".toml": _toml}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: a scenario file ends in .yaml, .yml, .toml or .json, this one in {path.suffix or 'nothing'}")
    text = read_text(path, MOST_BYTES)
    data, lines = readers[path.suffix.lower()](text, str(path)) if text.strip() else (None, {})
    if data is None or data == {}:
        raise UserError(f"{path}: the file is empty; `asyncsim init` writes one to start from")
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: a scenario is a mapping (`task: ...`, `cluster: ...`), not {_kind(data)}")
    return plain_document(Document(data, str(path), lines))


def plain_document(document: Document, overridden: Iterable[str] = ()) -> Document:
    """The document with nothing but plain data in it. Raises ``UserError``, naming the place of what is none."""
    try:
        return replace(document, data=plain(document.data))
    except NotPlain as error:
        field = ".".join(map(str, error.place))
        given = any(field == path or field.startswith(f"{path}.") for path in overridden)
        where = "override" if given else document.where(error.place)
        raise UserError(f"{where}: {printable(field, lines=False)}{': ' if field else 'the scenario '}{error}") from None


def parse_value(text: str) -> Any:
    """The value in ``--set key=value``, read as YAML. Text that is not YAML is taken as it is."""
    try:
        value, _ = read_yaml(text, "")
    except UserError:
        return text
    return value


def _json(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
            rows = [number for number, row in enumerate(text.splitlines(), 1) if json.dumps(twice) in row]
            raise UserError(f"{source}{f':{rows[-1]}' if rows else ''}: duplicate key {twice!r}")
        return found

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}:{error.lineno}: not valid JSON: {error.msg}") from None
    except ValueError as error:
        raise UserError(f"{source}: not valid JSON: {number_problem(error)}") from None
    except RecursionError:
        raise UserError(f"{source}: not valid JSON: nested too deeply") from None
    try:
        node = compose(text.replace("\t", " "), source)  # JSON is YAML 1.2, and YAML knows its lines
    except UserError:
        return data, {}
    return data, {} if node is None else lines_of(node)


def _toml(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    if long := _LONG_KEY.search(text):  # tomllib looks at every beginning of a dotted key
        line = text.count("\n", 0, long.start()) + 1
        raise UserError(f"{source}:{line}: not valid TOML: a key of more than {MOST_DEPTH} parts")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"line (\d+)", str(error))
        raise UserError(f"{source}:{found[1] if found else len(text.splitlines())}: not valid TOML: {error}") from None
    except ValueError as error:
        raise UserError(f"{source}: not valid TOML: {number_problem(error)}") from None
    except RecursionError:
        raise UserError(f"{source}: not valid TOML: nested too deeply") from None
    lines: dict[Location, int] = {}
    table: Location = ()
    arrays: dict[Location, int] = {}
    for number, row in enumerate(text.splitlines(), 1):
        row = row[:_LONG_ROW]
        if match := re.match(r"\s*\[\[\s*([^\]]+?)\s*\]\]", row):
            name = _dotted(match[1])
            arrays[name] = arrays.get(name, -1) + 1
            table = (*name, str(arrays[name]))
        elif match := re.match(r"\s*\[\s*([^\]]+?)\s*\]", row):
            table = _dotted(match[1])
        elif match := re.match(r"\s*([\w\-.\"']+)\s*=", row):
            name = _dotted(match[1])
            for length in range(1, len(name) + 1):
                lines.setdefault((*table, *name[:length]), number)
            continue
        else:
            continue
        lines.setdefault(table, number)
    return data, lines


def _dotted(text: str) -> Location:
    return tuple(part.strip().strip("\"'") for part in text.split("."))


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"the value {value!r}"
