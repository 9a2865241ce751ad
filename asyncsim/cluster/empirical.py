"""Measured durations, drawn with replacement (a bootstrap) from a file, or from numbers in the scenario."""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationInfo, model_validator

from asyncsim.cluster.delays import MAX_SECONDS, Delay, delays
from asyncsim.cluster.durations import Layout, Span, Times, Unit, in_seconds, read_durations, refuse_double_conversion
from asyncsim.cluster.fields import NonNegative, Positive
from asyncsim.cluster.files import Unusable, resolved
from asyncsim.cluster.parsing import read_rows
from asyncsim.cluster.recordings import read_content
from asyncsim.registry import located

MOST_VALUES = 10_000
"""Written into a scenario; more belong into a file."""


def _listed(value: Any) -> Any:
    """An array of any library as a list; its shape must be ``(values,)``."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple) and len(value) > MOST_VALUES:
        raise ValueError(f"{len(value):,} values; allowed are up to {MOST_VALUES:,}: write more into a file")
    return value


@delays.register("empirical")
class Empirical(Delay):
    """Each draw is one of the durations in ``file``, or one of ``values``, times ``scale``, all with the same probability.

    ``file`` is CSV, Parquet or JSON Lines, or a run's folder. ``times`` says what it holds: `durations` in ``column``;
    `stamps`, moments in ``column``, a duration being the time since the row before (of the same ``worker``); `intervals`,
    moments in the columns `start` and `end`. ``unit`` of its numbers, or of ``values``: None is that of the column's name, or
    seconds for values. ``span``: which rows count, where a column `kind` tells.

    The file is read once, when the settings are validated. A relative path starts at the folder of the scenario (the
    validation context's ``folder``), or else at the working directory, and is kept as an absolute one. ``sha256`` is
    filled in, so that a changed file is another scenario; where it is given, a file with another content is refused.
    """

    file: str | None = Field(default=None, min_length=1)
    values: Annotated[tuple[NonNegative, ...] | None, BeforeValidator(_listed)] = None
    column: str = "seconds"
    worker: str = "worker"
    span: Span = "compute"
    times: Times = "durations"
    unit: Unit | None = None
    scale: Positive = 1.0
    sha256: str | None = None
    _seconds: tuple[float, ...] = PrivateAttr(default=())
    _zero: str | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> Empirical:
        if (self.file is None) == (self.values is None):
            raise self._wrong("file", "give `file` or `values`, one of the two")
        if self.values is not None:
            self._seconds = self._scaled(in_seconds(np.array(self.values, np.float64), self.unit or "s"), "values")
            self._zero = "`values` has a 0" if 0 in self.values else None
            return self
        assert self.file is not None
        try:
            given = resolved(self.file, (info.context or {}).get("folder"))
            path, content = read_content(given)
            digest = hashlib.sha256(content).hexdigest()
            if self.sha256 not in (None, digest):
                raise Unusable("sha256", f"{path} has changed: its SHA-256 is {digest}")
            rows = read_rows(path, content)
            layout = Layout(self.column, self.worker, self.span, self.times, self.unit)
            refuse_double_conversion(layout, self.scale)
            read = read_durations(rows, layout)
        except Unusable as error:
            raise self._wrong(error.field, str(error)) from None
        self.__dict__ |= {"file": str(given.resolve()), "sha256": digest}
        self._seconds = self._scaled(read.seconds, "file")
        self._zero = read.zero
        return self

    def _scaled(self, seconds: np.ndarray, field: str) -> tuple[float, ...]:
        if not len(seconds):
            raise self._wrong(field, f"{self.file or '`values`'} holds no rows of durations; needed is at least one")
        if seconds.max() * self.scale > MAX_SECONDS:
            raise self._wrong(field, f"{seconds.max():g} s, times `scale`, is too long; allowed are up to {MAX_SECONDS:g} s")
        return tuple((seconds * self.scale).tolist())

    def _wrong(self, field: str, message: str) -> ValueError:
        return located("empirical", [((field,), getattr(self, field), message)])

    @property
    def zero(self) -> str | None:
        return self._zero

    @cached_property
    def seconds(self) -> np.ndarray:
        """The durations that are drawn from, in virtual seconds: shape ``(rows,)``, read-only."""
        array = np.array(self._seconds)
        array.flags.writeable = False
        return array

    @property
    def expected(self) -> float:
        return math.fsum(self._seconds) / len(self._seconds)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.seconds[rng.integers(len(self._seconds), size=size)]
