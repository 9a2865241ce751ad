"""What a scenario may say at one place: a kind and its fields (``list methods asgd``), or a field (``explain run.target``)."""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

from asyncsim import registries
from asyncsim.cli.layout import Column, show_table
from asyncsim.errors import UserError, nearest
from asyncsim.registry import PAPERS, Registry, Spec
from asyncsim.scenario.beside import ScenarioFile

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

COLUMNS = [Column("field", "left"), Column("default", "left", prose=True), Column("allowed", "left", prose=True)]
WORDS = {"null": "none", "integer": "a whole number", "number": "a number", "string": "text", "boolean": "true, false"}
Place = type[Spec] | Registry[Any] | None
"""What may stand at a place of a scenario: a section, a plugin, or (None) a single value."""


def explain(arguments: argparse.Namespace) -> int:
    """Describe what may stand at a dotted path of a scenario."""
    parts = arguments.field.split(".")
    place: Place = ScenarioFile
    for index, part in enumerate(parts):
        here = ".".join(parts[:index]) or "a scenario"
        if isinstance(place, Registry):
            if part in place:
                place = place[part]
                continue
            return _of_kinds(place, parts[index:], arguments.field, here)
        fields = {} if place is None else {info.alias or name: info for name, info in place.model_fields.items()}
        if part not in fields:
            known = f"; it has: {', '.join(fields)}" if fields else "; it is a single value"
            raise UserError(f"explain {arguments.field}: {here} has no {part!r}{nearest(part, fields)}{known}")
        if index == len(parts) - 1:
            assert place is not None
            _show_fields(place, [part])
        place = _place(fields[part])
    if isinstance(place, Registry):
        role = next(role for role, registry in registries.ALL.items() if registry is place)
        print(f"\nof these kinds (`asyncsim list {role} KIND` tells more):\n")
        show_table([Column("", "left"), Column("", "left", prose=True)], [(name, summary(cls)) for name, cls in place])
    elif place is not None:
        print()
        describe(place)
    return 0


def _of_kinds(registry: Registry[Any], parts: list[str], field: str, here: str) -> int:
    """Describe a field of all kinds that have it."""
    having = [(name, cls) for name, cls in registry if parts[0] in cls.model_fields]
    if not having or len(parts) > 1:
        fields = sorted({name for _, cls in registry for name in cls.model_fields})
        hint = nearest(parts[0], [*registry.names(), *fields])
        kinds = ", ".join(registry.names())
        raise UserError(f"explain {field}: {here} has no kind and no field {parts[0]!r}{hint}; its kinds: {kinds}")
    show_table([Column("kind", "left"), *COLUMNS], [(name, *_row(cls, parts[0])) for name, cls in having])
    return 0


def describe(cls: type[Spec]) -> None:
    """Print what a section or a plugin is, and its fields."""
    module = sys.modules[cls.__module__]
    own_file = cls.__module__.startswith(f"{PAPERS}.") and bool(module.__doc__)
    texts = [inspect.getdoc(module) or ""] if own_file else []
    for text in (*texts, inspect.getdoc(cls) or ""):
        print(text.replace("``", "`") + "\n")
    _show_fields(cls, list(cls.model_fields))


def summary(cls: type[Spec]) -> str:
    """The first paragraph of a plugin's description, in one line."""
    return (inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("``", "`")


def _show_fields(cls: type[Spec], names: list[str]) -> None:
    if names:
        show_table(COLUMNS, [_row(cls, name) for name in names])


def _row(cls: type[Spec], name: str) -> tuple[str, str, str]:
    """A field (by the name in the class, or as it is written), its default, and what is allowed."""
    info = next(info for key, info in cls.model_fields.items() if name in (key, info.alias))
    whole = _schema(cls)
    waiting = [whole]
    while "properties" not in (schema := waiting.pop()):  # a section that a bare value may stand for is one of several forms
        waiting += [_target(each, whole) for each in (*schema.get("anyOf", []), *([schema] if "$ref" in schema else []))]
    written = info.alias or name
    return written, _default(info), _allowed(schema["properties"][written], whole)


@lru_cache(maxsize=8)
def _schema(cls: type[Spec]) -> dict[str, Any]:
    return cls.model_json_schema()


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "must be given"
    return _written(info.get_default(call_default_factory=True, validated_data={}))


def _written(value: Any) -> str:
    """A default as a scenario file writes it."""
    if isinstance(value, Spec):
        value = {name: each for name, each in value.settings().items() if each is not None}
        value = value["kind"] if list(value) == ["kind"] else value
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_written(each)}' for name, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_written, value))}]"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _allowed(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> str:
    """A JSON Schema in words."""
    if "$ref" in schema:
        target = _target(schema, whole)
        return _allowed(target, whole) if "properties" not in target else f"a section of: {', '.join(target['properties'])}"
    if "x-registry" in schema:
        role = next(role for role, registry in registries.ALL.items() if registry.what == schema["x-registry"])
        return f"one of {role}"
    for key in ("enum", "const"):
        if key in schema:
            return ", ".join(map(str, schema[key])) if key == "enum" else str(schema[key])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_allowed(each, whole) for each in schema[key]))
    kind: Any = schema.get("type", "anything")
    if kind == "array":
        return f"a list of ({_allowed(schema['items'], whole)})" if schema.get("items") else "a list"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"a mapping to ({_allowed(values, whole)})" if isinstance(values, Mapping) else "a mapping"
    if isinstance(kind, list):
        return " or ".join(WORDS.get(str(each), str(each)) for each in kind)
    return WORDS.get(str(kind), str(kind)) + " and".join(_limits(schema))


def _target(schema: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """A schema, or what it refers to."""
    return whole["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else dict(schema)


def _limits(schema: Mapping[str, Any]) -> Iterator[str]:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    given = [(sign, schema[key]) for key, sign in signs.items() if key in schema]
    return (f" {sign} {limit:{',' if isinstance(limit, int) else 'g'}}" for sign, limit in given)


def _place(info: FieldInfo) -> Place:
    """What may stand in a field, looked for in its annotation; a registry stands before the base of its plugins."""
    waiting: list[Any] = [*info.metadata, info.annotation]
    while waiting:
        each = waiting.pop(0)
        if isinstance(each, Registry) or (isinstance(each, type) and issubclass(each, Spec)):
            return each
        waiting = [*getattr(each, "__metadata__", ()), *get_args(each), *waiting]
    return None
