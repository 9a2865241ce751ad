"""Turn a user's data, from a file or from Python, into plain data: text, numbers, lists and mappings of bounded size."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel

from asyncsim.errors import printable
from asyncsim.registry import Spec
from asyncsim.userfiles import MOST_DEPTH

MOST_VALUES = 200_000
"""The largest number of values in one document; what an alias repeats is counted again."""
MOST_DIGITS = 100
_DATES = (datetime.date, datetime.time)  # TOML and YAML make them of unquoted text; the field that has one says what it wants

Place = tuple[str | int, ...]


class NotPlain(Exception):
    """The data hold something that no scenario may hold: ``place`` says where, the message what."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place


def plain(data: Any) -> Any:
    """A copy of ``data`` of nothing but dict, list, str, int, float, bool and None (and dates, as files have them).

    NumPy's scalars and arrays, tuples and a plugin's settings become that; what has no such form is refused, as are control
    characters and lone surrogates in text, keys other than text and whole numbers, and a container inside itself. Raises
    ``NotPlain``.
    """
    return _plain(data, (), iter(range(MOST_VALUES)))


def _plain(value: Any, place: Place, left: Iterator[int]) -> Any:
    if next(left, None) is None:
        raise NotPlain(place, f"is the {MOST_VALUES:,}th value, and no scenario has more (are there aliases of aliases?)")
    if len(place) > MOST_DEPTH:
        raise NotPlain(place[:3], f"is nested too deeply, more than {MOST_DEPTH} levels, or stands inside itself")
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufU":
        value = value.tolist()
    if isinstance(value, str):
        return _text(value, place)
    if value is None or isinstance(value, (bool, float, *_DATES)):
        return float(value) if isinstance(value, float) else value
    if isinstance(value, int):
        if abs(value) >= 10**MOST_DIGITS:
            raise NotPlain(place, f"is a whole number of more than {MOST_DIGITS} digits")
        return int(value)
    if isinstance(value, BaseModel):
        value = value.settings() if isinstance(value, Spec) else value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {_key(key, place): _plain(item, (*place, str(key)), left) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, (*place, index), left) for index, item in enumerate(value)]
    raise NotPlain(place, f"is a {type(value).__name__}; text, numbers, true or false, lists and mappings are allowed")


def _key(key: Any, place: Place) -> str | int:
    if isinstance(key, str):
        return _text(key, place, "a key in it, ")
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and abs(int(key)) < 2**63:
        return int(key)
    raise NotPlain(place, "has a key that is neither text nor a whole number")


def _text(text: str, place: Place, what: str = "") -> str:
    if text.isprintable():  # nearly always
        return str(text)
    wrong = next((letter for letter in text if ord(letter) < 32 or 127 <= ord(letter) < 160), None)
    if wrong is not None:
        raise NotPlain(place, f"{what}{_quoted(text)}, holds the control character U+{ord(wrong):04X}")
    if any(0xD800 <= ord(letter) < 0xE000 for letter in text):
        raise NotPlain(place, f"{what}{_quoted(text)}, holds half of a surrogate pair, which is no text")
    return str(text)


def _quoted(text: str) -> str:
    short = text if len(text) <= 40 else f"{text[:37]}..."
    return f"'{printable(short, lines=False)}'"
