"""Typed tables that are only appended to: rows go in, NumPy columns and a hash come out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

SEGMENT_ROWS = 512
"""Rows hold tensors and futures, which cost memory and make Python's garbage collector slow, until they are columns."""


class Table:
    """A table to which rows are appended as tuples. A segment of rows at a time is turned into columns.

    The hash covers the columns named in ``hashed``, and does not depend on where segments end.
    """

    def __init__(self, columns: Mapping[str, str], hashed: Iterable[str] | None = None, keep: bool = True) -> None:
        self.columns = dict(columns)
        self.rows: list[tuple[Any, ...]] = []
        self.append = self.rows.append  # bound once: this is the hot path
        self.segments: list[dict[str, np.ndarray]] = []
        self.sealed = 0  # rows in segments, kept or not
        self.keep = keep
        """False: hash the rows, then forget them."""
        self._hashes = {name: hashlib.sha256() for name in (self.columns if hashed is None else hashed)}

    def __len__(self) -> int:
        return len(self.rows) + sum(len(next(iter(segment.values()))) for segment in self.segments)

    def seal(self, rows: int | None = None) -> dict[str, np.ndarray] | None:
        """Turn the first ``rows`` pending rows (all by default) into a segment of columns; None if there are none."""
        rows = len(self.rows) if rows is None else rows
        if not rows:
            return None
        columns = zip(*self.rows[:rows], strict=True)
        segment = {name: _column(values, dtype) for (name, dtype), values in zip(self.columns.items(), columns, strict=True)}
        del self.rows[:rows]
        self.add(segment)
        return segment

    def add(self, segment: dict[str, np.ndarray]) -> None:
        """Append a segment: columns of one length."""
        self.sealed += len(next(iter(segment.values())))
        for name, digest in self._hashes.items():
            digest.update(canonical(segment[name]))
        if self.keep:
            self.segments.append(segment)

    def arrays(self) -> dict[str, np.ndarray]:
        """All sealed rows, as one array for each column."""
        return joined(self.segments) if self.segments else {name: np.empty(0, dtype) for name, dtype in self.columns.items()}

    def digest(self) -> str:
        """SHA-256 over the sealed rows."""
        total = hashlib.sha256()
        for name, digest in self._hashes.items():
            total.update(name.encode() + digest.digest())
        return total.hexdigest()


def joined(segments: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The rows of one or more segments in one."""
    return {name: np.concatenate([segment[name] for segment in segments]) for name in segments[0]}


def canonical(array: np.ndarray) -> bytes:
    """The bytes of a column in a form that is the same on every machine: little-endian, with only one kind of NaN."""
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.nan, array)
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _column(values: tuple[Any, ...], dtype: str) -> np.ndarray:
    if dtype == "float64":
        return np.fromiter(map(float, values), dtype, len(values))  # a value may be a tensor or a future
    return np.array(values, dtype)
