"""Timed interactions between nodes: what a file of them says, in order of time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from asyncsim.cluster.columns import Rows
from asyncsim.cluster.files import Unusable, read_file
from asyncsim.cluster.parsing import read_rows
from asyncsim.errors import UserError

MOST_INTERACTIONS = 10**8


@dataclass(frozen=True)
class Interactions:
    """``n`` interactions in order of time: ``i`` and ``j`` (int64, from 0) and ``time`` (float64), shape ``(n,)`` each, and
    ``features``, shape ``(n, F)``. There are ``nodes`` nodes.

    ``time`` is 0 at the first interaction, and its unit is the mean gap between two that follow each other, so that the last is
    at ``n - 1``. ``prepared`` keeps what tasks have made of them."""

    i: np.ndarray
    j: np.ndarray
    time: np.ndarray
    features: np.ndarray
    nodes: int
    prepared: dict[Any, Any] = field(default_factory=dict, compare=False)

    @property
    def size(self) -> int:
        return len(self.time)


def in_order(i: np.ndarray, j: np.ndarray, time: np.ndarray, features: np.ndarray, nodes: int) -> Interactions:
    """Interactions sorted by time; those of one instant stay in the order in which they are given."""
    order = np.argsort(time, kind="stable")
    time = time[order] - time.min()
    if len(time) > 1 and time[-1] > 0:
        time = time * ((len(time) - 1) / time[-1])
    return Interactions(i[order], j[order], time, features[order], nodes)


def load(path: Path, columns: tuple[str, str, str], features: tuple[str, ...], bipartite: bool) -> Interactions:
    """The interactions in a file with a row for each: CSV (with commas, semicolons or tabs), Parquet or JSON Lines, which gzip
    may have compressed.

    ``columns`` names those of the time (numbers, or dates) and of the two nodes (whole numbers from 0, or names); ``features``
    those of finite numbers that go with an interaction. ``bipartite`` says that the nodes of the two columns are of different
    kinds, so that equal names are different nodes.

    Raises:
        UserError: the file is not there, or holds something else; the message names file, line, column and value.
    """
    return _load(path, path.stat().st_mtime_ns if path.is_file() else 0, columns, features, bipartite)


@lru_cache(maxsize=4)
def _load(path: Path, modified: int, columns: tuple[str, str, str], features: tuple[str, ...], bipartite: bool) -> Interactions:
    try:
        rows = read_rows(path, read_file(path))
        time = _times(rows, columns[0])
        found = [_names(rows, name) for name in columns[1:]]
        numbers = [rows.numbers(name, "features", "a finite number", np.isfinite).astype(np.float64) for name in features]
    except Unusable as error:
        raise UserError(f"task.{error.field}: {error}") from None
    if not 0 < rows.size <= MOST_INTERACTIONS:
        raise UserError(f"task.file: {path} has {rows.size:,} interactions; 1 to {MOST_INTERACTIONS:,} are allowed")
    i, j, nodes = _numbered(found, bipartite)
    table = np.stack(numbers, 1) if numbers else np.empty((rows.size, 0))
    return in_order(i, j, time, table, nodes)


def _times(rows: Rows, name: str) -> np.ndarray:
    """A column of moments as float64 seconds, or in the unit of its numbers."""
    rows.column(name, "columns")
    if rows.dates(name):
        moments = rows.moments([name], "columns", None)[0]
        return (moments - moments.min(initial=0)).astype(np.float64) / 1e9
    return rows.numbers(name, "columns", "a time: a finite number, or a date in the whole column", np.isfinite).astype(np.float64)


def _names(rows: Rows, name: str) -> Sequence[str]:
    """A column of names of nodes as text. Whole numbers are names, too; 7 and 7.0 are one name."""
    cells = rows.column(name, "columns")
    found = []
    for index, cell in enumerate(cells):
        whole = isinstance(cell, float | np.floating) and np.isfinite(cell) and cell == int(cell)
        text = str(int(cell)) if whole else "" if cell is None or cell != cell else str(cell).strip()
        if not text:
            raise rows.refuse(index, name, "the name or the number of a node")
        found.append(text)
    return found


def _numbered(found: list[Sequence[str]], bipartite: bool) -> tuple[np.ndarray, np.ndarray, int]:
    """The nodes of two columns as numbers, in the order of the names (bipartite: first those of the first column), and how many
    there are."""
    if bipartite:
        (one, i), (two, j) = (np.unique(np.asarray(each, dtype=str), return_inverse=True) for each in found)
        return i.astype(np.int64), j.astype(np.int64) + len(one), len(one) + len(two)
    names, numbers = np.unique(np.asarray([*found[0], *found[1]], dtype=str), return_inverse=True)
    i, j = numbers.astype(np.int64).reshape(2, -1)
    return i, j, len(names)
