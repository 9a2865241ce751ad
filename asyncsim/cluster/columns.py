"""A file of measurements as columns, whose cells are numbers, instants or names, checked with their place in the file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asyncsim.cluster.files import Unusable
from asyncsim.cluster.instants import instant, is_date
from asyncsim.errors import nearest
from asyncsim.units import LAST_NS, NANOSECONDS

Cells = Sequence[Any] | np.ndarray
_DECIMAL_COMMA = re.compile(r"\s*[-+]?\d+,\d+(?:[eE][-+]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(?:,\d{3})+\s*")


class Rows(NamedTuple):
    """A file as columns. ``where(index)`` names the place of a row for people; ``separator`` is what separates its columns."""

    path: Path
    columns: dict[str, Cells]
    where: Callable[[int], str]
    separator: str = ","

    @property
    def size(self) -> int:
        """How many rows there are."""
        return len(next(iter(self.columns.values()), ()))

    def column(self, name: str, field: str) -> Cells:
        if name not in self.columns:
            found = ", ".join(self.columns) or "none"
            numbers = self.columns and all(_number(each) == _number(each) for each in self.columns)
            headless = "; the first line must name the columns, without `#`" if numbers else ""
            hint = nearest(name, self.columns)
            raise Unusable(field, f"{self.path} has no column {name!r}{hint}; its columns: {found}{headless}")
        return self.columns[name]

    def refuse(self, index: int, name: str, allowed: str) -> Unusable:
        """The error for one cell."""
        cell = self.columns[name][index]
        shown = repr(cell.item() if isinstance(cell, np.generic) else cell)
        return Unusable("file", f"{self.where(index)}, column {name!r}: {shown:.80} is not {allowed}")

    def dates(self, name: str) -> bool:
        """Does a column hold dates?"""
        cells = self.columns[name]
        return (isinstance(cells, np.ndarray) and cells.dtype.kind == "M") or (len(cells) > 0 and is_date(cells[0]))

    def numbers(self, name: str, field: str, allowed: str, fits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A column as float64 (whole numbers stay int64). The first value that is not allowed is named in the error."""
        cells = self._points(name, self.column(name, field))
        kind = cells.dtype.kind if isinstance(cells, np.ndarray) else "O"
        typed = kind != "O"
        if typed and len(cells) and kind not in "iuf":
            raise self.refuse(0, name, allowed)  # truth values and dates would become numbers
        try:
            values: np.ndarray = np.asarray(cells, np.int64 if kind == "i" else np.float64)
        except (TypeError, ValueError):
            values = np.array([_number(cell) for cell in cells])
        wrong = ~fits(values)
        for index, cell in enumerate(() if typed else cells):  # Python would read 1_000 as a number
            if type(cell) is str and "_" in cell:
                wrong[index] = True
        if wrong.any():
            raise self.refuse(int(wrong.argmax()), name, allowed)
        return values

    def whole(self, name: str, field: str) -> np.ndarray:
        """A column of whole numbers from 0 as int64."""
        cells = self.column(name, field)
        if not isinstance(cells, np.ndarray):  # text: through int, as nanoseconds may have more digits than a float
            try:
                cells = np.array([_whole(cell) for cell in cells], np.int64)
            except (TypeError, ValueError, OverflowError):
                cells = self.columns[name]
        rows = self._replace(columns={**self.columns, name: cells})
        values = rows.numbers(
            name, field, "a whole number from 0", lambda values: (values >= 0) & (values == np.floor(values)) & (values < 2.0**63)
        )
        return values.astype(np.int64)

    def moments(self, names: Sequence[str], field: str, unit: str | None) -> list[np.ndarray]:
        """Columns of moments as int64 nanoseconds, exactly: dates (since 1970), or numbers of ``unit``."""
        zoned: list[bool] = []
        return [self._moments(name, field, unit, zoned) for name in names]

    def _moments(self, name: str, field: str, unit: str | None, zoned: list[bool]) -> np.ndarray:
        """``zoned``: whether the dates before had an offset from UTC, if there were any."""
        cells = self._points(name, self.column(name, field))
        if isinstance(cells, np.ndarray) and cells.dtype.kind == "M":
            seconds = cells.astype("datetime64[s]").astype(np.int64)
            wrong = np.isnat(cells) | (abs(seconds) >= LAST_NS // NANOSECONDS)
            if wrong.any():
                raise self.refuse(int(wrong.argmax()), name, "a date from 1678 to 2262")
            return cells.astype("datetime64[ns]").astype(np.int64)
        dates = self.dates(name)
        allowed = "a date such as 2026-01-31T12:00:00" if dates else f"a time; allowed are numbers of `unit` ({unit}), or dates"
        found = np.empty(len(cells), np.int64)
        for index, cell in enumerate(cells):
            moment = instant(cell, dates, unit)
            if moment is None or not -LAST_NS <= moment.ns <= LAST_NS:
                far = "" if moment is None else " up to 292 years from 0"
                raise self.refuse(index, name, allowed + far)
            if zoned and zoned[0] != moment.zoned:
                raise self.refuse(index, name, "like the dates before; allowed is an offset from UTC (such as Z) for all or none")
            zoned[:] = [moment.zoned]
            found[index] = moment.ns
        return found

    def names(self, name: str, field: str) -> np.ndarray:
        """A column of names of workers: whole numbers from 0 where all are numbers, else text, none of it empty."""
        cells = self.column(name, field)
        try:
            return self.whole(name, field)
        except Unusable:
            words = np.array(["" if cell is None or cell != cell else str(cell).strip() for cell in cells], object)
            if (words != "").all() and all(_number(word) == _number(word) for word in words):
                raise  # numbers that are no indices
        empty = words == ""
        if empty.any():
            raise Unusable("file", f"{self.where(int(empty.argmax()))}, column {name!r}: no worker is named")
        return words

    def _points(self, name: str, cells: Cells) -> Cells:
        """Text with decimal points: commas are read where columns are not separated by them and they can't be thousands."""
        if isinstance(cells, np.ndarray) and cells.dtype.kind != "O":
            return cells
        commas = [index for index, cell in enumerate(cells) if isinstance(cell, str) and "," in cell]
        if not commas:
            return cells
        decimal = [bool(_DECIMAL_COMMA.fullmatch(cells[index])) for index in commas]
        mixed = any(isinstance(cell, str) and "." in cell for cell in cells)
        if self.separator == "," or mixed or not all(decimal):
            if any(decimal):
                where = "" if self.separator == "," else ", or decimal commas in the whole column"
                first = commas[decimal.index(True)]
                raise self.refuse(first, name, f"read: it has a decimal comma; allowed are decimal points{where}")
            return cells
        if all(_THOUSANDS.fullmatch(cells[index]) for index in commas):
            allowed = "clear: its comma may be decimal or set off thousands; write a decimal point, or none"
            raise self.refuse(commas[0], name, allowed)
        return [cell.replace(",", ".") if isinstance(cell, str) else cell for cell in cells]


def _whole(cell: Any) -> int:
    """A whole number; ValueError for what only Python takes for one."""
    if type(cell) is str and "_" in cell:
        raise ValueError(cell)
    return int(cell)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")
