"""Make a failing scenario small: leave out fields and entries, lower numbers, as long as it still fails in the same way."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

Path = tuple[Any, ...]


def shrunk(document: dict[str, Any], fails: Callable[[dict[str, Any]], bool], seconds: float = 60.0) -> dict[str, Any]:
    """The smallest document found within so many seconds for which ``fails`` is true, as it is for ``document``."""
    deadline = time.monotonic() + seconds
    tried: set[str] = set()
    progress = True
    while progress:
        progress = False
        for candidate in candidates(document):
            if time.monotonic() > deadline:
                return document
            key = repr(candidate)
            if key in tried or size(candidate) >= size(document):
                continue
            tried.add(key)
            if fails(candidate):
                document, progress = candidate, True
                break
    return document


def size(value: Any) -> tuple[int, float]:
    """How many things a document says, and how large its numbers are."""
    if isinstance(value, dict | list):
        parts = [size(item) for item in (value.values() if isinstance(value, dict) else value)]
        return 1 + sum(count for count, _ in parts), sum(amount for _, amount in parts)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 1, len(str(value)) / 100
    return 1, abs(value) + len(str(value)) / 100


def candidates(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Smaller documents: without a part, the larger parts first; then with simpler values."""
    places = sorted(_places(document), key=lambda place: size(_at(document, place)), reverse=True)
    for place in places:
        yield _changed(document, place, remove=True)
    for place in places:
        value = _at(document, place)
        if isinstance(value, dict) and "kind" in value:
            yield _changed(document, place, {"kind": value["kind"]})
        for simple in _simpler(place, value):
            yield _changed(document, place, simple)


def _simpler(place: Path, value: Any) -> Iterator[Any]:
    if place == ("task",):
        yield {"kind": "quadratic"}
    if isinstance(value, dict | list):
        yield 1.0  # a duration
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    for simple in (0, 1, value // 4, value // 2, value - 1, round(value, 1)):
        if simple >= 0 and simple != value:
            yield type(value)(simple)


def _places(value: Any, above: Path = ()) -> Iterator[Path]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*above, key)
        yield from _places(item, (*above, key))


def _at(document: Any, place: Path) -> Any:
    for key in place:
        document = document[key]
    return document


def _changed(document: dict[str, Any], place: Path, value: Any = None, remove: bool = False) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    inside = _at(changed, place[:-1])
    if remove:
        del inside[place[-1]]
    else:
        inside[place[-1]] = value
    return changed
