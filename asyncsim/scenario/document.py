"""Scenario files as plain data that remembers its line numbers: YAML 1.2, TOML and JSON."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode
from ruamel.yaml.reader import ReaderError

from asyncsim.errors import UserError

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Document:
    """The ``data`` of a file. ``lines`` gives the line (from 1) of every place in it, as far as the format tells."""

    data: dict[str, Any]
    source: str
    lines: Mapping[Location, int] = field(default_factory=dict)

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
    readers = {".yaml": _yaml, ".yml": _yaml, ".json": _json, ".toml": _toml}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: a scenario file ends in .yaml, .yml, .toml or .json, this one in {path.suffix or 'nothing'}")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a scenario file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    data, lines = readers[path.suffix.lower()](text, str(path)) if text.strip() else (None, {})
    if data is None or data == {}:
        raise UserError(f"{path}: the file is empty; `asyncsim init` writes one to start from")
    if not isinstance(data, dict):
        raise UserError(f"{path}:1: a scenario is a mapping (`task: ...`, `cluster: ...`), not {_kind(data)}")
    return Document(data, str(path), lines)


def parse_value(text: str) -> Any:
    """The value in ``--set key=value``, read as YAML. Text that is not YAML is taken as it is."""
    try:
        return YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError, RecursionError):
        return text


def _yaml(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    try:
        data = YAML(typ="safe", pure=True).load(text)
        node = YAML(typ="safe", pure=True).compose(text)
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UserError(f"{source}:{line}: not valid YAML: the character U+{error.character:04X} is not allowed") from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise UserError(f"{source}:{mark.line + 1 if mark else 1}: not valid YAML: {_yaml_problem(error)}") from None
    except (YAMLError, ValueError) as error:
        raise UserError(f"{source}: not valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{source}: not valid YAML: nested too deeply") from None
    lines: dict[Location, int] = {}
    if node is not None:
        _mark(node, (), lines, set())
    return data, lines


def _yaml_problem(error: MarkedYAMLError) -> str:
    problem = " ".join((error.problem or error.context or "it cannot be read").split())
    if problem.startswith("but ") and error.context:
        return f"{error.context}, {problem}"
    if "'\\t'" in problem:
        return "a tab where the line should be indented with spaces"
    return problem


def _mark(node: Node, location: Location, lines: dict[Location, int], seen: set[int]) -> None:
    if id(node) in seen:  # an alias has the line at which it is used
        return
    seen.add(id(node))
    if isinstance(node, MappingNode):
        for key, value in node.value:
            place = (*location, str(key.value))
            lines[place] = key.start_mark.line + 1
            _mark(value, place, lines, seen)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            place = (*location, str(index))
            lines[place] = value.start_mark.line + 1
            _mark(value, place, lines, seen)


def _json(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            rows = [number for number, row in enumerate(text.splitlines(), 1) if json.dumps(twice) in row]
            raise UserError(f"{source}{f':{rows[-1]}' if rows else ''}: duplicate key {twice!r}")
        return dict(pairs)

    try:
        data = json.loads(text, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{source}:{error.lineno}: not valid JSON: {error.msg}") from None
    except RecursionError:
        raise UserError(f"{source}: not valid JSON: nested too deeply") from None
    try:
        return data, _yaml(text.replace("\t", " "), source)[1]  # JSON is YAML 1.2, and YAML knows its lines
    except UserError:
        return data, {}


def _toml(text: str, source: str) -> tuple[Any, dict[Location, int]]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        raise UserError(f"{source}:{line[1] if line else len(text.splitlines())}: not valid TOML: {error}") from None
    except RecursionError:
        raise UserError(f"{source}: not valid TOML: nested too deeply") from None
    lines: dict[Location, int] = {}
    table: Location = ()
    arrays: dict[Location, int] = {}
    for number, row in enumerate(text.splitlines(), 1):
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
