"""The table of a run's events, in a file: its columns, checked."""

from __future__ import annotations

import numpy as np

from asyncsim.cluster.columns import Rows
from asyncsim.cluster.files import Unusable
from asyncsim.records.rows import EVENT_KINDS

EVENT_COLUMNS = ("kind", "worker", "step", "start_ns", "end_ns", "complete")


def spans(rows: Rows, span: str) -> np.ndarray:
    """``end_ns - start_ns`` of every row, shape ``(rows,)``. A span that ends before it starts is refused, and a whole one of
    kind `compute` that takes no time."""
    start, end = (rows.whole(name, "file") for name in ("start_ns", "end_ns"))
    wrong = end < start
    if wrong.any():
        index = int(wrong.argmax())
        raise Unusable("file", f"{rows.where(index)}: ends at {end[index]} ns, before it starts at {start[index]} ns")
    if span == "compute":
        wrong = (end == start) & (kinds_of(rows) == EVENT_KINDS.index(span)) & truths_of(rows)
        if wrong.any():
            raise Unusable("file", f"{rows.where(int(wrong.argmax()))}: a computation of 0 s; allowed are those above 0")
    return end - start


def kinds_of(rows: Rows) -> np.ndarray:
    """The column ``kind`` as indices into ``EVENT_KINDS``; the file has names or those indices."""
    codes = {**{name: code for code, name in enumerate(EVENT_KINDS)}, **{str(code): code for code in range(len(EVENT_KINDS))}}
    cells = rows.columns["kind"]
    if isinstance(cells, np.ndarray) and cells.dtype.kind in "iu":
        values = cells.astype(np.int64)
    else:
        values = np.array([codes.get(str(cell), -1) for cell in cells], np.int64)
    wrong = (values < 0) | (values >= len(EVENT_KINDS))
    if wrong.any():
        index = int(wrong.argmax())
        raise Unusable("file", f"{rows.where(index)}, column 'kind': {cells[index]!r} is none of {', '.join(EVENT_KINDS)}")
    return values


def truths_of(rows: Rows) -> np.ndarray:
    cells = rows.columns["complete"]
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "b":
        return cells
    words = {"true": True, "1": True, "false": False, "0": False}
    values = [words.get(str(cell).lower()) for cell in cells]
    if None in values:
        index = values.index(None)
        raise Unusable("file", f"{rows.where(index)}, column 'complete': {cells[index]!r} is neither true nor false")
    return np.array(values, bool)
