"""Reads recorded durations: a table of durations by worker, or the events of a run. Everything becomes nanoseconds by worker."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asyncsim.cluster.delays import MAX_SECONDS
from asyncsim.errors import nearest
from asyncsim.records.rows import EVENT_KINDS
from asyncsim.units import NANOSECONDS

EVENT_COLUMNS = ("kind", "worker", "step", "start_ns", "end_ns", "complete")


class Recording(NamedTuple):
    """``durations[worker]`` has shape ``(rows,)``, int64 nanoseconds, in the worker's order."""

    durations: dict[int, np.ndarray]
    rounds: bool
    """True: read from events, so row s is all of step s, slowdowns included. False: a row is one batch at full speed."""
    sha256: str


class Unusable(Exception):
    """``field`` of the delay is at fault, with this message."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class Rows(NamedTuple):
    """A file as columns. ``where(index)`` names the place of a row for people."""

    path: Path
    columns: dict[str, Sequence[Any] | np.ndarray]
    where: Callable[[int], str]

    def column(self, name: str, field: str) -> Sequence[Any] | np.ndarray:
        if name not in self.columns:
            found = ", ".join(self.columns) or "none"
            raise Unusable(field, f"{self.path} has no column {name!r}{nearest(name, self.columns)}; its columns: {found}")
        return self.columns[name]

    def numbers(self, name: str, field: str, allowed: str, fits: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """A column as float64 (whole numbers stay int64); the first value that does not fit is named."""
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


def read_recording(path: Path, worker: str, column: str, span: str, scale: float) -> Recording:
    """The durations of kind ``span`` in a CSV or Parquet file, or in the events of a run's folder.

    Raises:
        Unusable: the file cannot be read, or holds something that is no duration.
    """
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = path / "events.parquet"
    try:
        content = path.read_bytes()
    except OSError as error:
        hint = ": the folder holds no finished run with events" if folder == path.parent and path.name == "events.parquet" else ""
        raise Unusable("file", f"{path} cannot be read: {error.strerror or error}{hint}") from None
    rows = _parquet(path, content) if content[:4] == b"PAR1" else _csv(path, content)
    digest = hashlib.sha256(content)
    if "start_ns" in rows.columns and "end_ns" in rows.columns:
        run = _run(folder) if path.name == "events.parquet" else None
        if run is not None:
            digest.update(f"{run.workers} {run.end}".encode())
        durations = _from_events(rows, span, run)
    else:
        durations = _from_durations(rows, worker, column, span)
    if scale != 1.0:
        durations = {key: np.round(values * scale).astype(np.int64) for key, values in durations.items()}
    return Recording(durations, "start_ns" in rows.columns, digest.hexdigest())


class _Run(NamedTuple):
    workers: int
    end: int  # nanoseconds


def _run(folder: Path) -> _Run | None:
    """What the other files of a run's folder tell: how many workers there were, and when it ended."""
    import pyarrow.parquet as pq

    try:
        summary = json.loads((folder / "summary.json").read_text())
        times = pq.read_table(folder / "metrics.parquet", columns=["time_ns"]).column(0).to_numpy()
        return _Run(int(summary["workers"]), int(times.max()))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_durations(rows: Rows, worker: str, column: str, span: str) -> dict[int, np.ndarray]:
    workers = rows.whole(worker, "worker")
    seconds = rows.numbers(
        column, "column", f"a duration; allowed is a number of seconds from 0 to {MAX_SECONDS:g}",
        lambda values: (values >= 0) & (values <= MAX_SECONDS),
    ).astype(np.float64)  # fmt: skip
    if "kind" in rows.columns:
        chosen = _kinds(rows) == EVENT_KINDS.index(span)
        workers, seconds = workers[chosen], seconds[chosen]
    if not len(workers):
        raise Unusable("file", f"{rows.path} holds no rows of kind `{span}`; needed is at least one for each worker")
    times = np.round(seconds * NANOSECONDS).astype(np.int64)
    order = np.argsort(workers, kind="stable")
    found, starts = np.unique(workers[order], return_index=True)
    return dict(zip(found.tolist(), np.split(times[order], starts[1:]), strict=True))


def _from_events(rows: Rows, span: str, run: _Run | None) -> dict[int, np.ndarray]:
    for name in EVENT_COLUMNS:
        rows.column(name, "file")
    kinds, complete = _kinds(rows), _truths(rows)
    workers, steps, start, end = (rows.whole(name, "file") for name in ("worker", "step", "start_ns", "end_ns"))
    backwards = end < start
    if backwards.any():
        index = int(backwards.argmax())
        raise Unusable("file", f"{rows.where(index)}: ends at {end[index]} ns, before it starts at {start[index]} ns")
    last = run.end if run is not None else int(end.max(initial=0))
    known = np.unique(workers).tolist() if run is None else list(range(run.workers))
    if not known:
        raise Unusable("file", f"{rows.path} holds no events")
    chosen = kinds == EVENT_KINDS.index(span)
    mean = int((end - start)[chosen & complete].mean()) if (chosen & complete).any() else 0
    order = np.argsort(workers, kind="stable")
    edges = np.searchsorted(workers[order], [*known, known[-1] + 1])
    durations = {}
    for worker, left, right in zip(known, edges[:-1], edges[1:], strict=True):
        mine = order[left:right]
        steps_seen = int(steps[mine].max(initial=-1)) + 2
        mine = mine[chosen[mine]]
        durations[worker] = _by_step(rows, mine, steps, start, end, complete, steps_seen, last, mean, span)
    return durations


def _by_step(
    rows: Rows, mine: np.ndarray, steps: np.ndarray, start: np.ndarray, end: np.ndarray, complete: np.ndarray,
    size: int, last: int, mean: int, span: str,
) -> np.ndarray:  # fmt: skip
    """One worker's durations by step, shape ``(size,)``.

    A span that was cut short, or was going on at the end of the run, has no duration on record. It gets one that it had not
    reached: at least 1 ns more than was seen, and not below the mean.
    """
    seen = steps[mine]
    spans = (end - start)[mine]
    whole = complete[mine]
    if len(np.unique(seen)) < len(seen):
        twice = mine[np.flatnonzero(np.isin(seen, [step for step in np.unique(seen) if (seen == step).sum() > 1]))[1]]
        raise Unusable("file", f"{rows.where(int(twice))}: a second `{span}` of the same worker at step {steps[twice]}")
    own = int(spans[whole].mean()) if whole.any() else mean
    values = np.full(size, own if span == "compute" else 0, np.int64)
    values[seen] = np.where(whole, spans, np.maximum(spans + 1, own))
    first = int(seen.max(initial=-1)) + 1
    values[first:] = max(own, last - int(end[mine].max(initial=0)) + 1)
    return values


def _kinds(rows: Rows) -> np.ndarray:
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


def _truths(rows: Rows) -> np.ndarray:
    cells = rows.columns["complete"]
    if isinstance(cells, np.ndarray) and cells.dtype.kind == "b":
        return cells
    words = {"true": True, "1": True, "false": False, "0": False}
    values = [words.get(str(cell).lower()) for cell in cells]
    if None in values:
        index = values.index(None)
        raise Unusable("file", f"{rows.where(index)}, column 'complete': {cells[index]!r} is neither true nor false")
    return np.array(values, bool)


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
