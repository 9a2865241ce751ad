"""Types for the fields of this room. None of them takes a boolean for a number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

MAX_WORKERS = 1_000_000
T = TypeVar("T")


def _whole(allowed: str) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit():
            return int(value)  # keys of a JSON object are strings
        if isinstance(value, bool) or not isinstance(value, int | float) or value % 1 != 0:
            raise ValueError(f"not a whole number; allowed is a whole number {allowed}")
        return int(value)

    return parse


def _number(allowed: str) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"not a finite number; allowed is a number {allowed}")
        return float(value)

    return parse


WorkerCount = Annotated[
    int, Field(ge=1, le=MAX_WORKERS), BeforeValidator(_whole("from 1 to 1,000,000")),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_WORKERS}),
]  # fmt: skip
WorkerIndex = Annotated[
    int, Field(ge=0), BeforeValidator(_whole("from 0, the index of a worker")), WithJsonSchema({"type": "integer", "minimum": 0})
]
Positive = Annotated[
    float, Field(gt=0), BeforeValidator(_number("above 0")), WithJsonSchema({"type": "number", "exclusiveMinimum": 0})
]
NonNegative = Annotated[
    float, Field(ge=0), BeforeValidator(_number("from 0")), WithJsonSchema({"type": "number", "minimum": 0})
]  # fmt: skip


def _some(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("an empty list; allowed is one entry or more")
    return values


Several = Annotated[tuple[T, ...], AfterValidator(_some)]  # `min_length` would add a second message where an entry is wrong
