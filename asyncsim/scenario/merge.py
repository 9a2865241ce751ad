"""Apply changes to plain data: ``--set a.b=c`` on the command line, variants in a file, ``evolve`` in a notebook."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from asyncsim.errors import UserError

_DIGITS = re.compile("[0-9]{1,18}")


def merged(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``data`` with ``changes`` applied. Keys may be dotted paths. A mapping is merged into a mapping, unless it names a
    ``kind``; then it replaces the whole mapping."""
    result = copy.deepcopy(dict(data))
    for path, value in changes.items():
        _put(result, str(path).split("."), copy.deepcopy(value), str(path))
    return result


def overridden(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``merged``, for changes of the command line. Raises ``UserError``, naming it as an override."""
    try:
        return merged(data, changes)
    except UserError as error:
        raise UserError(f"override: {error}") from None


def _put(target: dict[str, Any], keys: list[str], value: Any, path: str) -> None:
    *parents, last = keys
    place: Any = target
    for key in parents:
        place = _enter(place, key, path)
    if isinstance(place, list):
        place[_index(place, last, path)] = value
        return
    last = _key(place, last)
    old = place.get(last)
    if isinstance(value, Mapping) and "kind" not in value and old is not None and not isinstance(old, list):
        place[last] = merged(_mapping(old, last, path), value)
    else:
        place[last] = value


def _enter(place: Any, key: str, path: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, key, path)]
    key = _key(place, key)
    if not isinstance(place.get(key), dict | list):
        place[key] = _mapping(place.get(key), key, path)
    return place[key]


def _mapping(value: Any, key: str, path: str) -> dict[str, Any]:
    """The mapping for which ``value`` is short, so that ``method: gap_aware`` can be followed by ``method.per=layer``."""
    if value is None or isinstance(value, dict):
        return value or {}
    if isinstance(value, str) and value.isidentifier():
        return {"kind": value}
    raise UserError(f"{path}: `{key}` is the value {value!r}, there is nothing inside it to set; give `{key}` as a whole")


def _key(place: Mapping[Any, Any], key: str) -> Any:
    """Keys of a mapping may be numbers (``cluster.overrides.3``)."""
    return int(key) if _DIGITS.fullmatch(key) and int(key) in place else key


def _index(place: list[Any], key: str, path: str) -> int:
    if not _DIGITS.fullmatch(key) or int(key) >= len(place):
        raise UserError(f"{path}: `{key}` is no index into a list of {len(place)}")
    return int(key)
