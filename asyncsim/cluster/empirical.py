"""Measured durations, drawn with replacement from one column of a CSV file (a bootstrap)."""

from __future__ import annotations

import csv
import hashlib
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from asyncsim.cluster.delays import MAX_SECONDS, Delay, delays
from asyncsim.cluster.fields import Positive
from asyncsim.errors import nearest
from asyncsim.registry import located


@delays.register("empirical")
class Empirical(Delay):
    """Each draw is one of the values in ``column`` of ``file``, times ``scale``, all with the same probability.

    The file is read once, when the settings are validated. A relative path starts at the folder of the scenario (the
    validation context's ``folder``), or else at the working directory, and is kept as an absolute one. ``sha256`` is
    filled in, so that a changed file is another scenario; where it is given, a file with another content is refused.
    """

    file: str = Field(min_length=1)
    column: str = "seconds"
    scale: Positive = 1.0
    sha256: str | None = None
    _values: tuple[float, ...] = PrivateAttr(default=())

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> Empirical:
        path = Path((info.context or {}).get("folder") or ".") / self.file
        try:
            content = path.read_bytes()
            text = content.decode("utf-8-sig")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise self._wrong("file", self.file, f"{path} cannot be read as a CSV file in UTF-8: {why}") from None
        digest = hashlib.sha256(content).hexdigest()
        if self.sha256 not in (None, digest):
            raise self._wrong("sha256", self.sha256, f"{path} has changed: its SHA-256 is {digest}")
        self.__dict__ |= {"file": str(path.resolve()), "sha256": digest}
        self._values = tuple(self._column(path, text))
        return self

    def _column(self, path: Path, text: str) -> list[float]:
        rows = csv.DictReader(text.splitlines())
        names = rows.fieldnames or []
        if self.column not in names:
            hint = nearest(self.column, names)
            found = ", ".join(names) or "none"
            raise self._wrong("column", self.column, f"{path} has no column {self.column!r}{hint}; its columns: {found}")
        values = []
        for row in rows:
            cell = row[self.column]
            try:
                value = float(cell) * self.scale
            except (TypeError, ValueError):
                value = math.nan
            if not 0 <= value <= MAX_SECONDS:
                where = f"{path}, line {rows.line_num}, column {self.column!r}"
                allowed = f"a number of seconds from 0 to {MAX_SECONDS:g} (after `scale`)"
                raise self._wrong("file", self.file, f"{where}: {cell!r} is not a duration; allowed is {allowed}")
            values.append(value)
        if not values:
            raise self._wrong("file", self.file, f"{path} holds no rows; needed is at least one value in column {self.column!r}")
        return values

    @staticmethod
    def _wrong(field: str, value: Any, message: str) -> ValueError:
        return located("empirical", [((field,), value, message)])

    @cached_property
    def values(self) -> np.ndarray:
        """The durations that are drawn from, in virtual seconds: shape ``(rows,)``, read-only."""
        array = np.array(self._values)
        array.flags.writeable = False
        return array

    @property
    def expected(self) -> float:
        return math.fsum(self._values) / len(self._values)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return self.values[rng.integers(len(self._values), size=size)]
