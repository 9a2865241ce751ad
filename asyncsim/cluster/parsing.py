"""Turn the bytes of a file into columns: CSV (with commas, semicolons or tabs), Parquet, or JSON Lines. Rows of different
lengths are refused."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from asyncsim.cluster.columns import Cells, Rows
from asyncsim.cluster.files import Unusable, text_in, unpacked
from asyncsim.errors import first_line

SEPARATORS = {",": "`,`", ";": "`;`", "\t": "a tab"}
TRIED = 100
"""The number of rows that decide between separators, if the header has several of them."""


def read_rows(path: Path, content: bytes) -> Rows:
    """The columns in ``content``, the bytes of the file ``path``, which may be compressed by gzip.

    Parquet is recognised by its first bytes; JSON Lines by the ending .jsonl or .ndjson, or by beginning with ``{``;
    everything else is read as CSV. Blank lines, and lines that begin with ``#``, are skipped.

    Raises:
        Unusable: the content is not what it should be.
    """
    content = unpacked(path, content)
    if content[:4] == b"PAR1":
        return _parquet(path, content)
    text = text_in(path, content)
    name = path.name.lower().removesuffix(".gz")
    begun = "".join(text[:200].split())
    return _json_lines(path, text) if name.endswith((".jsonl", ".ndjson")) or begun.startswith(("{", "[{")) else _csv(path, text)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that count, each with its number."""
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line


def _csv(path: Path, text: str) -> Rows:
    first = [line for _, line in zip(range(TRIED), (line for _, line in _lines(text)), strict=False)]
    separator = _separator(path, first)
    place = 0

    def fed() -> Iterator[str]:
        nonlocal place
        for place, line in _lines(text):  # noqa: B007  # the place is for the loop below
            yield line

    cells, lines = [], []
    try:
        reader = csv.reader(fed(), delimiter=separator, skipinitialspace=True, strict=True)
        header = [name.strip() for name in next(reader, [])]
        for row in reader:
            if len(row) != len(header):
                hint = _commas(separator, row)
                raise Unusable("file", f"{path}, line {place}: {len(row)} values for {len(header)} columns{hint}")
            cells.append(row)
            lines.append(place)
    except csv.Error as error:
        raise Unusable("file", f"{path}, line {place}: cannot be read as CSV: {error}") from None
    _refuse_twice(path, header)
    columns: dict[str, Cells] = dict(zip(header, zip(*cells, strict=True) if cells else [() for _ in header], strict=True))
    columns.pop("", None)  # the index of a table that pandas wrote, or a separator at the end of each line
    return Rows(path, columns, lambda index: f"{path}, line {lines[index]}", separator)


def _separator(path: Path, lines: list[str]) -> str:
    """The separator that the header has; if it has several, the one that divides all rows into equally many cells."""
    found = [each for each in SEPARATORS if lines and each in lines[0]]
    if len(found) < 2:
        return found[0] if found else ","
    fitting = []
    for each in found:
        try:
            counts = {len(row) for row in csv.reader(lines, delimiter=each, skipinitialspace=True)}
        except csv.Error:
            continue
        if len(counts) == 1 and counts != {1}:
            fitting.append(each)
    if len(fitting) != 1:
        names = " and ".join(SEPARATORS[each] for each in found)
        raise Unusable("file", f"{path}: its header holds {names}, and the rows do not tell which one separates columns; use one")
    return fitting[0]


def _commas(separator: str, row: list[str]) -> str:
    """A hint for the message, where decimal commas may have divided a row."""
    cut = separator == "," and any(re.fullmatch(r"\s*-?\d+", one) and re.match(r"\d+", two) for one, two in pairwise(row))
    return "; for decimal commas, separate columns by `;`, or write decimal points" if cut else ""


def _json_lines(path: Path, text: str) -> Rows:
    """Columns from one object on each line. A boolean becomes the word, as it is not a number; a field that an object lacks is
    None."""
    objects, lines = [], []
    names: dict[str, None] = {}  # in the order in which they are met
    for line, content in _lines(text):
        try:
            each = json.loads(content, object_pairs_hook=_once)
        except _Twice as twice:
            raise Unusable("file", f"{path}, line {line}: the field {twice.args[0]!r} comes twice") from None
        except (ValueError, RecursionError) as error:
            raise Unusable("file", f"{path}, line {line}: not valid JSON: {getattr(error, 'msg', error)}") from None
        if not isinstance(each, dict):
            raise Unusable("file", f"{path}, line {line}: {each!r:.80} is not an object such as {{\"seconds\": 0.4}}")
        objects.append(each)
        lines.append(line)
        names |= dict.fromkeys(each)
    columns: dict[str, Cells] = {name: tuple(_word(each.get(name)) for each in objects) for name in names}
    return Rows(path, columns, lambda index: f"{path}, line {lines[index]}")


class _Twice(Exception):
    """An object has a key twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Twice(name)
        found[name] = value
    return found


def _word(value: Any) -> Any:
    return str(value) if type(value) is bool else value


def _parquet(path: Path, content: bytes) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(io.BytesIO(content))
        _refuse_twice(path, table.column_names)
        columns = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    except (OSError, pa.ArrowException) as error:
        raise Unusable("file", f"{path} cannot be read as Parquet: {first_line(error)}") from None
    return Rows(path, columns, lambda index: f"{path}, row {index + 1}")


def _refuse_twice(path: Path, names: list[str]) -> None:
    for place, name in enumerate(names):
        if name and name in names[:place]:
            raise Unusable("file", f"{path}: the column {name!r} comes twice; allowed is each name once")
