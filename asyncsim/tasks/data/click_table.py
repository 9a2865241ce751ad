"""A user's own table of clicks: CSV, Parquet or JSON Lines, plain or in gzip."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from pydantic import Field, model_validator

from asyncsim.cluster.columns import Cells, Rows
from asyncsim.cluster.files import Unusable, read_file
from asyncsim.cluster.parsing import read_rows
from asyncsim.errors import UserError
from asyncsim.registry import Spec
from asyncsim.tasks.data.arrays import Arrays, held_out
from asyncsim.userfiles import regular

SEPARATOR = "|"
"""Between the values of a cell that may have several."""


class Column(Spec):
    """A column of the table: ``rows`` is the most distinct values that it may have, each of which gets a row of the embedding.
    A column of numbers has ``buckets`` in its place: its values are cut at as many quantiles. A cell holds up to ``values``
    values, separated by ``|``, whose rows are averaged."""

    name: str
    rows: int | None = Field(default=None, ge=1, le=10**9)
    buckets: int | None = Field(default=None, ge=2, le=10_000)
    values: int = Field(default=1, ge=1, le=1000)

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if (self.rows is None) == (self.buckets is None):
            raise ValueError(f"the column {self.name!r} needs exactly one of rows, buckets")
        if self.buckets is not None and self.values > 1:
            raise ValueError(f"the column {self.name!r} has buckets, and so one number in a cell; `values` is for IDs")
        return self

    @property
    def size(self) -> int:
        """The number of rows of the embedding."""
        return self.rows or self.buckets or 0


class Reading(NamedTuple):
    """How a table is read: the fields of the task of these names."""

    columns: tuple[Column, ...]
    label: str
    threshold: float | None
    test: float
    split: str


def load(path: Path, how: Reading) -> Arrays:
    """IDs ``(n, S)`` and clicks ``(n,)`` of the file. UserError, with the line, where it is unreadable or does not fit."""
    regular(path, 2**62)
    return _load(path, path.stat().st_mtime_ns, how)


@lru_cache(maxsize=2)
def _load(path: Path, modified: int, how: Reading) -> Arrays:
    try:
        table = read_rows(path, read_file(path))
        clicks = _clicks(table, how)
        held = _held(table, clicks, how)
        ids, first = [], 1  # the ID 0 stands for no value
        for column in how.columns:
            ids.append(_buckets(table, column, held) if column.buckets else _values(table, column))
            ids[-1][ids[-1] >= 0] += first
            ids[-1][ids[-1] < 0] = 0
            first += column.size
    except Unusable as error:
        raise UserError(f"task.{error.field}: {error}") from None
    inputs = np.concatenate(ids, axis=1)
    return Arrays((inputs[~held], clicks[~held]), (inputs[held], clicks[held]))


def _clicks(table: Rows, how: Reading) -> np.ndarray:
    """1 for a click, else 0, ``(n,)``."""
    if how.threshold is not None:
        values = table.numbers(how.label, "label", "a finite number", np.isfinite)
        return (values >= how.threshold).astype(np.int64)
    allowed = "0 or 1; with `task.threshold` it may be any number"
    return table.numbers(how.label, "label", allowed, lambda values: (values == 0) | (values == 1)).astype(np.int64)


def _held(table: Rows, clicks: np.ndarray, how: Reading) -> np.ndarray:
    """Which rows are for testing, ``(n,)``. Both parts must have clicks and others: otherwise nothing is ranked."""
    count = round(how.test * len(clicks))
    at_random = how.split == "random" and 0 < count < len(clicks)
    held = held_out(clicks, count, "test") if at_random else np.arange(len(clicks)) >= len(clicks) - count
    for part, name in ((clicks[~held], "training"), (clicks[held], "testing")):
        if len(np.unique(part)) < 2:
            raise Unusable("file", f"{table.path}: of its {len(clicks)} rows, the {len(part)} for {name} have no "
                           f"{'clicks' if not part.any() else 'rows without a click'}; both are needed")  # fmt: skip
    return held


def _buckets(table: Rows, column: Column, held: np.ndarray) -> np.ndarray:
    """Which of the buckets each number is in, ``(n, 1)``: they are cut at the quantiles of the training part."""
    values = table.numbers(column.name, "columns", "a finite number", np.isfinite)
    assert column.buckets is not None
    edges = np.quantile(values[~held], np.linspace(0, 1, column.buckets + 1)[1:-1])
    return np.searchsorted(edges, values, side="right").astype(np.int64)[:, None]


def _values(table: Rows, column: Column) -> np.ndarray:
    """The values of each cell ``(n, values)``, numbered in the order in which they first come in the file; -1 for none."""
    numbers: dict[str, int] = {}
    found = np.full((table.size, column.values), -1, np.int64)
    for index, words in enumerate(_words(table.column(column.name, "columns"), column.values > 1)):
        if len(words) > column.values:
            raise Unusable("columns", f"{table.where(index)}, column {column.name!r}: {len(words)} values in a cell; at most "
                           f"{column.values} allowed (`values`)")  # fmt: skip
        for place, word in enumerate(words):
            found[index, place] = numbers.setdefault(word, len(numbers))
    if len(numbers) > column.size:
        raise Unusable("columns", f"{table.path}: the column {column.name!r} has {len(numbers):,} distinct values; its `rows` "
                       f"are {column.size:,}")  # fmt: skip
    return found


def _words(cells: Cells, several: bool) -> Iterator[list[str]]:
    """The values of each cell as text; those of a list in a Parquet file are taken one by one."""
    for cell in cells:
        parts: list[Any] = [cell]
        if several and isinstance(cell, str):
            parts = cell.split(SEPARATOR)
        elif isinstance(cell, list | np.ndarray):
            parts = list(cell)
        words = ("" if part is None or part != part else str(part).strip() for part in parts)
        yield list(dict.fromkeys(word for word in words if word))
