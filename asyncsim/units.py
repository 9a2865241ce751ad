"""Quantities with units: ``50ms``, ``2h``, ``4MB``, ``10Gbit/s``, ``3.06/h``, ``300W``. Inside, seconds, bytes, bytes per second,
dollars per hour, dollars per gigabyte and watts (floats).

Virtual time itself is an integer number of nanoseconds; ``nanoseconds`` is the only place where seconds become ticks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from asyncsim.errors import UserError

NANOSECONDS = 1_000_000_000
TICK = 1e-9
"""Seconds in a nanosecond, the shortest time that can pass."""
LAST_NS = 2**63 - 1
"""The last instant of virtual time, after 292 years: a table's columns of times hold no later one."""
_MAX_SECONDS = 9_000_000_000  # just under 2**63 nanoseconds, 285 years

TIME = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
SIZE = {
    **{"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12},
    **{"KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30, "TiB": 2.0**40},
}
RATE = {
    **{f"{unit}/s": factor for unit, factor in SIZE.items()},
    **{"bit/s": 1 / 8, "kbit/s": 1e3 / 8, "Mbit/s": 1e6 / 8, "Gbit/s": 1e9 / 8, "Tbit/s": 1e12 / 8},
}
MONEY = ("", "$", "USD")
HOURLY = {f"{money}/{unit}": 3600 / TIME[unit] for money in MONEY for unit in ("s", "min", "h", "d")}
PER_GIGABYTE = {f"{money}/{unit}": 1e9 / SIZE[unit] for money in MONEY for unit in ("MB", "GB", "TB", "MiB", "GiB", "TiB")}
POWER = {"mW": 1e-3, "W": 1.0, "kW": 1e3, "MW": 1e6}
_QUANTITY = re.compile(r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*([^\s\d][^\s]*)?\s*")


def _parser(what: str, units: Mapping[str, float], base: str, example: str) -> Callable[[Any], float]:
    allowed = f"a number of {base}, or a string such as {example} (units: {', '.join(units)})"

    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError(f"not {what}; allowed is {allowed}")
        if isinstance(value, str):
            match = _QUANTITY.fullmatch(value)
            if match is None or (match[2] is not None and match[2] not in units):
                raise ValueError(f"not {what}; allowed is {allowed}")
            value = float(match[1]) * (units[match[2]] if match[2] else 1.0)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise ValueError(f"{what} must be finite; allowed is {allowed}")
        return number

    return parse


def _parsed(what: str, units: Mapping[str, float], base: str, example: str) -> BeforeValidator:
    return BeforeValidator(_parser(what, units, base, example))


def _written(base: str, example: str, **bounds: float) -> WithJsonSchema:
    """What JSON Schema says of a quantity: a number within ``bounds``, or text."""
    number = {"type": "number", **_json_bounds(bounds)}
    return WithJsonSchema({"anyOf": [number, {"type": "string"}], "description": f"{base}, or {example}"})


def _json_bounds(bounds: Mapping[str, float]) -> dict[str, float]:
    names = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
    return {names[key]: value for key, value in bounds.items()}


def _at_least(least: float, shown: str) -> Callable[[float], float]:
    """Of what is above 0."""

    def check(value: float) -> float:
        if 0 < value < least:
            raise ValueError(f"is too little; allowed is {shown} or more")
        return value

    return check


_TICKS = AfterValidator(_at_least(TICK, "1ns, the tick of virtual time,"))
_DURATION = _parsed("a duration", TIME, "seconds", "50ms")
Seconds = Annotated[
    float, Field(ge=0, le=_MAX_SECONDS), _DURATION, _written("seconds", "50ms", ge=0, le=_MAX_SECONDS), _TICKS
]  # fmt: skip
SpreadSeconds = Annotated[float, Field(gt=0, le=_MAX_SECONDS), _DURATION, _written("seconds", "50ms", gt=0, le=_MAX_SECONDS)]
"""How far draws spread around something longer; it may be less than a tick."""
PositiveSeconds = Annotated[SpreadSeconds, _TICKS]
Bytes = Annotated[
    float, Field(ge=0, le=1e21), _parsed("a size", SIZE, "bytes", "4MB"), _written("bytes", "4MB", ge=0, le=1e21)
]  # fmt: skip
BytesPerSecond = Annotated[
    float, Field(gt=0), _parsed("a bandwidth", RATE, "bytes per second", "10Gbit/s"),
    _written("bytes per second", "10Gbit/s", gt=0), AfterValidator(_at_least(1e-9, "1e-9 bytes per second")),
]  # fmt: skip
DollarsPerHour = Annotated[
    float, Field(ge=0), _parsed("a price", HOURLY, "dollars per hour", "3.06/h"), _written("dollars per hour", "3.06/h", ge=0)
]  # fmt: skip
DollarsPerGigabyte = Annotated[
    float, Field(ge=0), _parsed("a price of transfer", PER_GIGABYTE, "dollars per gigabyte", "0.09/GB"),
    _written("dollars per gigabyte", "0.09/GB", ge=0),
]  # fmt: skip
Watts = Annotated[float, Field(ge=0), _parsed("a power", POWER, "watts", "300W"), _written("watts", "300W", ge=0)]


def nanoseconds(seconds: float | Fraction) -> int:
    """Seconds as ticks of virtual time, rounded to the nearest nanosecond.

    Raises:
        UserError: the seconds are not finite.
    """
    try:
        return round(seconds * NANOSECONDS)
    except (OverflowError, ValueError):
        raise UserError(f"a duration of {seconds} s came up in the simulation; allowed are finite ones") from None


def time_unit(seconds: float) -> str:
    """The unit in which a duration is easiest to read: the number is then about 3 to 200."""
    for unit in ("d", "h", "min", "s", "ms", "us"):
        if abs(seconds) >= TIME[unit] * (3 if TIME[unit] > 1 else 1):
            return unit
    return "ns" if seconds else "s"


def show_seconds(seconds: float, unit: str | None = None) -> str:
    """A duration as text, such as ``1.5 ms``, ``12.3 s`` or ``2.5 h``; in ``unit``, where several are to be compared."""
    unit = unit or time_unit(seconds)
    value = seconds / TIME[unit]
    return f"{value:,.0f} {unit}" if abs(value) >= 1000 else f"{value:.3g} {unit}"


def show_dollars(dollars: float) -> str:
    """An amount of money as text, such as ``$0.0042``, ``$12.30`` or ``$1,234``."""
    if abs(dollars) >= 1000:
        return f"${dollars:,.0f}"
    return f"${dollars:.2f}" if abs(dollars) >= 1 or not dollars else f"${dollars:.3g}"


def show_joules(joules: float) -> str:
    """An energy as text, such as ``120 J`` or ``3.4 kJ``; from 0.1 kWh on such as ``2.5 kWh``."""
    if abs(joules) >= 360_000:
        return f"{joules / 3.6e6:,.0f} kWh" if abs(joules) >= 3.6e9 else f"{joules / 3.6e6:.3g} kWh"
    return f"{joules / 1000:.3g} kJ" if abs(joules) >= 1000 else f"{joules:.3g} J"
