"""Files of measurements as columns: CSV, Parquet or JSON Lines, whose cells are checked with their place in the file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asyncsim.errors import nearest


class Unusable(Exception):
    """A file cannot be used by a delay: ``field`` is the setting that is at fault, and the message says why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Rows(NamedTuple):
    """The contents of a file as columns. ``where(index)`` names the place of a row in words."""

    path: Path
    columns: dict[str, Sequence[Any] | np.ndarray]
    where: Callable[[int], str]

    def column(self, name: str, field: str) -> Sequence[Any] | np.ndarray:
        if name not in self.columns:
            found = ", ".join(self.columns) or "none"
            raise Unusable(field, f"{self.path} has no column {name!r}{nearest(name, self.columns)}; its columns: {found}")
        return self.columns[name]

    def numbers(self, name: str, field: str, allowed: str, fits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A column as float64 (whole numbers stay int64). The first value that is not allowed is named in the error."""
        cells = self.column(name, field)
        try:
            whole = isinstance(cells, np.ndarray) and cells.dtype.kind == "i"
            values = np.asarray(cells, np.int64 if whole else np.float64)
        except (TypeError, ValueError):
            values = np.array([_number(cell) for cell in cells])
        wrong = ~fits(values)
        if wrong.any():
            index = int(wrong.argmax())
            cell = cells[index]
            shown = repr(cell.item() if isinstance(cell, np.generic) else cell)
            raise Unusable("file", f"{self.where(index)}, column {name!r}: {shown} is not {allowed}")
        return values

    def whole(self, name: str, field: str) -> np.ndarray:
        cells = self.column(name, field)
        if not isinstance(cells, np.ndarray):  # text: through int, as nanoseconds may have more digits than a float
            try:
                cells = np.array([int(cell) for cell in cells], np.int64)
            except (TypeError, ValueError, OverflowError):
                cells = self.columns[name]
        rows = self._replace(columns={**self.columns, name: cells})
        values = rows.numbers(
            name, field, "a whole number from 0", lambda values: (values >= 0) & (values == np.floor(values)) & (values < 2.0**63)
        )
        return values.astype(np.int64)


def read_rows(path: Path, content: bytes) -> Rows:
    """The columns in ``content``, the bytes of the file ``path``.

    Parquet is recognised by its first bytes, JSON Lines by the ending .jsonl or .ndjson; everything else is read as CSV.

    Raises:
        Unusable: the content is not what it should be.
    """
    if content[:4] == b"PAR1":
        return _parquet(path, content)
    return _json_lines(path, content) if path.suffix.lower() in (".jsonl", ".ndjson") else _csv(path, content)


def _csv(path: Path, content: bytes) -> Rows:
    try:
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        header = [name.strip() for name in next(reader, [])]
        cells, lines = [], []
        for row in reader:
            if row:
                cells.append(row)
                lines.append(reader.line_num)
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unusable("file", f"{path} cannot be read as a CSV file in UTF-8, nor as Parquet: {error}") from None
    for row, line in zip(cells, lines, strict=True):
        if len(row) != len(header):
            raise Unusable("file", f"{path}, line {line}: {len(row)} values for {len(header)} columns")
    columns = dict(zip(header, zip(*cells, strict=True) if cells else [() for _ in header], strict=True))
    return Rows(path, columns, lambda index: f"{path}, line {lines[index]}")


def _json_lines(path: Path, content: bytes) -> Rows:
    """Columns from JSON Lines: one object a line, all with the fields of the first. A boolean becomes the word, as it is not a
    number."""
    objects, lines = [], []
    try:
        for line, text in enumerate(content.decode("utf-8-sig").split("\n"), 1):
            if text.strip():
                objects.append(json.loads(text))
                lines.append(line)
    except UnicodeDecodeError as error:
        raise Unusable("file", f"{path} cannot be read as JSON Lines in UTF-8: {error}") from None
    except (ValueError, RecursionError) as error:
        raise Unusable("file", f"{path}, line {line}: not valid JSON: {getattr(error, 'msg', error)}") from None
    names = list(objects[0]) if objects and isinstance(objects[0], dict) else []
    for each, line in zip(objects, lines, strict=True):
        if not isinstance(each, dict):
            raise Unusable("file", f"{path}, line {line}: {each!r} is not an object such as {{\"seconds\": 0.4}}")
        if each.keys() != set(names):
            raise Unusable("file", f"{path}, line {line}: the fields are {', '.join(each) or 'none'}, and not {', '.join(names)}")
    columns = {name: tuple(str(each[name]) if type(each[name]) is bool else each[name] for each in objects) for name in names}
    return Rows(path, columns, lambda index: f"{path}, line {lines[index]}")


def _parquet(path: Path, content: bytes) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
        columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        raise Unusable("file", f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}") from None
    return Rows(path, columns, lambda index: f"{path}, row {index + 1}")


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return float("nan")
