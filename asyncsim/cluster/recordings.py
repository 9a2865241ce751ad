"""Read recorded durations, from a table of durations by worker or from the events of a run, as nanoseconds by worker."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asyncsim.cluster.columns import Rows, Unusable, read_rows
from asyncsim.cluster.delays import MAX_SECONDS
from asyncsim.records.rows import EVENT_KINDS
from asyncsim.units import NANOSECONDS

EVENT_COLUMNS = ("kind", "worker", "step", "start_ns", "end_ns", "complete")


class Recording(NamedTuple):
    """``durations[worker]`` has shape ``(rows,)``, int64 nanoseconds, in the worker's order."""

    durations: dict[int, np.ndarray]
    rounds: bool
    """Were the rows read from events? Then row s is the whole of step s, slowdowns included. Otherwise a row is one batch at
    full speed."""
    sha256: str


def read_recording(path: Path, worker: str, column: str, span: str, scale: float) -> Recording:
    """The durations of kind ``span`` in a CSV, Parquet or JSON Lines file, or in the events of a run's folder.

    Raises:
        Unusable: the file cannot be read, or holds something that is no duration.
    """
    path, content = read_content(path)
    rows = read_rows(path, content)
    digest = hashlib.sha256(content)
    if "start_ns" in rows.columns and "end_ns" in rows.columns:
        run = _run(path.parent) if path.name == "events.parquet" else None
        if run is not None:
            digest.update(f"{run.workers} {run.end}".encode())
        durations = _from_events(rows, span, run)
    else:
        durations = _from_durations(rows, worker, column, span)
    if scale != 1.0:
        durations = {key: np.round(values * scale).astype(np.int64) for key, values in durations.items()}
    return Recording(durations, "start_ns" in rows.columns, digest.hexdigest())


def read_content(path: Path) -> tuple[Path, bytes]:
    """The place and the bytes of a recording: those of the file itself, or those of the events in a run's folder."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        path = path / "events.parquet"
    try:
        return path, path.read_bytes()
    except OSError as error:
        hint = ": the folder holds no finished run with events" if folder == path.parent and path.name == "events.parquet" else ""
        raise Unusable("file", f"{path} cannot be read: {error.strerror or error}{hint}") from None


class _Run(NamedTuple):
    workers: int
    end: int  # nanoseconds


def _run(folder: Path) -> _Run | None:
    """The number of workers, and the end of the run, from the other files in a run's folder."""
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
        chosen = kinds_of(rows) == EVENT_KINDS.index(span)
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
    kinds, complete = kinds_of(rows), truths_of(rows)
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

    A span that was cut short, or still went on at the end of the run, has no recorded duration. It gets one that the run did
    not reach: at least 1 ns more than was seen, and not below the mean.
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
