"""Moments in files: numbers, or dates in ISO 8601, to the nanosecond."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from asyncsim.units import NANOSECONDS

PER_UNIT = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
"""The number of nanoseconds in each unit."""
_DATE = re.compile(r"(\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2})?)?)([.,]\d{1,9})?\s*(Z|[-+]\d{2}:?\d{2})?")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Instant(NamedTuple):
    """A moment in nanoseconds since 1970, or since the moment from which the file's numbers count. ``zoned``: the date had an
    offset from UTC."""

    ns: int
    zoned: bool = False


def is_date(cell: Any) -> bool:
    """Does the text look like a date (2026-01-31, 2026-01-31T12:00:00.5Z)?"""
    return isinstance(cell, str) and re.match(r"\s*\d{4}-\d{2}-\d{2}", cell) is not None


def instant(cell: Any, date: bool, unit: str | None) -> Instant | None:
    """The moment that ``cell`` names, as a date or as a number of ``unit``; None if it names none."""
    if date:
        return _of_date(cell) if isinstance(cell, str) else None
    if unit is None or (isinstance(cell, str) and "_" in cell):
        return None
    try:
        number = Decimal(cell.strip() if isinstance(cell, str) else repr(cell.item() if hasattr(cell, "item") else cell))
    except (InvalidOperation, ValueError):
        return None
    if not number.is_finite() or number.adjusted() > 30:
        return None
    return Instant(int((number * PER_UNIT[unit]).to_integral_value()))


def _of_date(cell: str) -> Instant | None:
    match = _DATE.fullmatch(cell.strip())
    if match is None:
        return None
    whole, fraction, offset = match.groups()
    try:
        zone = datetime.fromisoformat("1970-01-01T00:00" + (offset or "Z")).tzinfo
        moment = datetime.fromisoformat(whole).replace(tzinfo=zone)
    except ValueError:
        return None
    passed = moment - _EPOCH
    seconds = passed.days * 86_400 + passed.seconds
    return Instant(seconds * NANOSECONDS + (int(fraction[1:].ljust(9, "0")) if fraction else 0), offset is not None)
