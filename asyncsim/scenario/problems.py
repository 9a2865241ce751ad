"""Turn validation errors into messages with file, line, field, value, and what is allowed."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from asyncsim.errors import UserError, nearest, printable
from asyncsim.scenario.document import Document
from asyncsim.scenario.yaml_text import Location

MOST = 20
M = TypeVar("M", bound=BaseModel)

_WORDS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("list_type", "tuple_type"), "must be a list, in brackets"),
    "finite_number": "must be a finite number",
    "literal_error": "must be {expected}",
    "string_type": "must be text; put a number or a date in quotes",
    "string_too_short": "must have at least {min_length} character(s)",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries, it has {actual_length}",
    "too_long": "must have at most {max_length} entries, it has {actual_length}",
    "dict_type": "must be a mapping (`name: value`)",
    "model_type": "must be a name, or a mapping with `kind: name`",
    "missing": "is missing",
}
_EXAMPLES = {("task",): "`task: digits` (see `asyncsim list tasks`)", ("run",): "`run: {updates: 1000}`"}
_BRANCH = re.compile(r"int|float|str|bool|constrained-\w+|(tuple|list|dict|literal)\[.*\]")  # pydantic's names in unions


class ScenarioError(UserError):
    """A scenario is not valid, or cannot be run. ``problems`` has one line for each problem."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        shown = problems[:MOST] + ([f"... and {len(problems) - MOST} more"] if len(problems) > MOST else [])
        super().__init__("\n".join(shown))


class Problems:
    """What is wrong with a document, gathered a line each, so that all of it is told at once.

    ``overridden`` are the dotted paths of overrides; a problem in one of them names no file.
    """

    def __init__(self, document: Document, overridden: Collection[str] = ()) -> None:
        self.document = document
        self.overridden = tuple(overridden)
        self.lines: list[str] = []

    def wrong(self, place: Location, message: str) -> None:
        """Note a problem at a place of the document, or of an option: ``("--grid", "cluster.workers")``."""
        named = str(place[0]).startswith("--")
        where = " ".join(map(str, place)) if named else f"{origin(place, self.document, self.overridden)}: {_dotted(place)}"
        self.lines.append(f"{where}: {message}")

    def add(self, error: ScenarioError) -> None:
        self.lines += error.problems

    def refuse(self) -> None:
        """Raise ``ScenarioError`` if there are any."""
        if self.lines:
            raise ScenarioError(list(dict.fromkeys(self.lines)))


def scenario_error(
    error: ValidationError,
    model: type[BaseModel],
    document: Document,
    overridden: Collection[str] = (),
    under: Location = (),
) -> ScenarioError:
    """Every problem of ``error`` as one line: ``file:line: field: what is wrong, the value``. ``overridden`` are the dotted
    paths of overrides; a problem in one of them names no file. ``under`` is the place of the ``model`` in the document."""
    sections = dict(_sections(model))
    problems: dict[Location, list[Any]] = {}
    for problem in error.errors(include_url=False):
        place = under + tuple(part for part in problem["loc"] if not (isinstance(part, str) and _BRANCH.fullmatch(part)))
        problems.setdefault(place, []).append(problem)
    around = {place[:length] for place in problems for length in range(len(place))}  # a union's other branch
    return ScenarioError([
        _line(place, found, sections, document, overridden) for place, found in problems.items() if place not in around
    ])  # fmt: skip


def validated(
    model: type[M],
    data: Any,
    document: Document,
    overridden: Collection[str] = (),
    under: Location = (),
    context: Mapping[str, Any] | None = None,
) -> M:
    """``data``, which stands ``under`` a place of the ``document``, as an instance of ``model``. Raises ``ScenarioError``."""
    try:
        return model.model_validate(data, context=context)
    except ValidationError as error:
        raise scenario_error(error, model, document, overridden, under) from None


def origin(location: Location, document: Document, overridden: Collection[str] = ()) -> str:
    """Where a wrong value comes from: an override, or a place in the document."""
    field = [str(part) for part in location]
    for path in overridden:
        keys = path.split(".")
        length = min(len(keys), len(field))
        if keys[:length] == field[:length]:
            return "override"
    return document.where(location)


def shown(value: Any) -> str:
    """A value as it appears in a message: short, and written as in the file rather than as in Python."""
    if isinstance(value, list) and len(value) <= 8 and not any(map(_is_container, value)):
        return f"[{', '.join(map(shown, value))}]"
    if isinstance(value, Mapping) and not value:
        return "an empty mapping"
    if _is_container(value):
        return "a list" if isinstance(value, list | tuple) else "a mapping"
    if value is None or isinstance(value, bool):
        return "empty" if value is None else json.dumps(value)
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _line(
    place: Location, problems: list[Any], sections: Mapping[str, Any], document: Document, overridden: Collection[str]
) -> str:
    kind, given = problems[0]["type"], problems[0]["input"]
    first, *others = dict.fromkeys(_message(problem, sections) for problem in problems)
    message = " or ".join([first, *(other.removeprefix("must be ") for other in others)])
    if kind == "missing":
        message += f"; write for example {_EXAMPLES[place]}" if place in _EXAMPLES else ""
    else:
        place = _as_written(place, document.data)
        value = _value(place, document.data, given)
        named = _is_container(value) or value is None or shown(value) in message
        message += "" if named and kind not in _WORDS else f" (it is {shown(value)})"
    field = _dotted(place)
    return f"{origin(place, document, overridden)}: {f'{field}: ' if field else ''}{message}"


def said(problem: Any) -> str:
    """What one of pydantic's problems says, where a check of ours has worded it."""
    return problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")


def _dotted(place: Location) -> str:
    return printable(".".join(str(part) for part in place), lines=False)


def _message(problem: Any, sections: Mapping[str, Any]) -> str:
    kind, context, given = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind not in _WORDS:
        return said(problem)
    if kind == "model_type" and context["class_name"] in sections:
        return f"must be a mapping with some of: {', '.join(sections[context['class_name']].model_fields)}"
    plain = {key: f"{bound:.12g}" if isinstance(bound, float) else bound for key, bound in context.items()}
    words = _WORDS[kind].format_map(plain)
    if kind == "literal_error" and isinstance(given, str):
        words += nearest(given, re.findall("'(.*?)'", context["expected"]))
    return words


def _as_written(location: Location, data: Any) -> Location:
    """The part of a location that the document has: where it says ``compute: -5ms``, a wrong ``compute.mean`` is reported as a
    wrong ``compute``."""
    for length, part in enumerate(location):
        if not _is_container(data):
            return location[:length] if data is not None else location
        data = _inside(data, part)
    return location


def _value(location: Location, data: Any, otherwise: Any) -> Any:
    """The value that the document has there, with its unit; ``otherwise`` where it has none."""
    for part in location:
        data = _inside(data, part) if _is_container(data) else None
    return otherwise if data is None or _is_container(data) != _is_container(otherwise) else data


def _inside(data: Any, part: Any) -> Any:
    if isinstance(data, Mapping):
        return data.get(part, data.get(str(part)))
    return data[part] if isinstance(part, int) and 0 <= part < len(data) else None


def _is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple | BaseModel)


def _sections(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The models that are fields of ``model``, or of its fields, by class name."""
    for field in model.model_fields.values():
        parts = [field.annotation]
        for part in parts:
            parts.extend(get_args(part))
            if inspect.isclass(part) and issubclass(part, BaseModel):
                yield part.__name__, part
                yield from _sections(part)
