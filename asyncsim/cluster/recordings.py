"""Read recorded durations, from a table of durations by worker or from the events of a run, as nanoseconds by worker."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asyncsim.cluster.columns import Rows
from asyncsim.cluster.durations import Layout, holds_events, read_durations, refuse_double_conversion
from asyncsim.cluster.files import Unusable, read_file
from asyncsim.cluster.parsing import read_rows
from asyncsim.cluster.spans import EVENT_COLUMNS, kinds_of, spans, truths_of
from asyncsim.errors import UserError
from asyncsim.records.rows import EVENT_KINDS
from asyncsim.userfiles import read_json


class Recording(NamedTuple):
    """``durations[worker]`` has shape ``(rows,)``, int64 nanoseconds, in the worker's order; ``names`` are the file's."""

    durations: dict[int, np.ndarray]
    names: dict[int, Any]
    rounds: bool
    """Were the rows read from events? Then row s is the whole of step s, slowdowns included. Otherwise a row is one batch at
    full speed."""
    zero: str | None
    """The place of a row that is 0 s."""
    sha256: str


def read_recording(path: Path, layout: Layout, first: int, scale: float) -> Recording:
    """The durations of a file by worker, or those of the events of a run's folder. ``first`` is the number of worker 0 in the
    file; named workers are numbered in alphabetical order.

    Raises:
        Unusable: the file cannot be read, or holds something that is no duration.
    """
    refuse_double_conversion(layout, scale)
    path, content = read_content(path)
    rows = read_rows(path, content)
    digest = hashlib.sha256(content)
    rounds, zero = holds_events(rows, layout), None
    if rounds:
        run = _run(path.parent) if path.name == "events.parquet" else None
        if run is not None:
            digest.update(f"{run.workers} {run.end}".encode())
        durations = _from_events(rows, layout.span, run)
        names: dict[int, Any] = {worker: worker for worker in durations}
    else:
        durations, names, zero = _from_durations(rows, layout, first)
    if scale != 1.0:
        longest = max(int(values.max(initial=0)) for values in durations.values())
        if longest * scale >= 2.0**63:
            raise Unusable("scale", f"{path}: a duration of {longest / 1e9:g} s is longer than 285 years after `scale`")
        durations = {key: np.round(values * scale).astype(np.int64) for key, values in durations.items()}
    return Recording(durations, names, rounds, zero, digest.hexdigest())


def read_content(path: Path) -> tuple[Path, bytes]:
    """The place and the bytes of a recording: those of the file itself, or those of the events in a run's folder."""
    if path.is_dir():
        path = path / "events.parquet"
        if not path.exists():
            raise Unusable("file", f"{path} cannot be read: the folder holds no finished run with events")
    return path, read_file(path)


class _Run(NamedTuple):
    workers: int
    end: int  # nanoseconds


def _run(folder: Path) -> _Run | None:
    """What the other files of a run's folder tell: how many workers there were, and when it ended. None if they are not there.

    Raises ``Unusable`` for those that are damaged: the durations of workers without events would be others.
    """
    from asyncsim.records.reading import MOST_MANIFEST, read_table

    summary = folder / "summary.json"
    if not summary.exists():
        return None
    try:
        workers = read_json(summary, MOST_MANIFEST)["workers"]
        metrics = read_table(folder, "metrics", {"time_ns": "int64"})
        return None if metrics is None else _Run(int(workers), int(metrics["time_ns"].max()))
    except UserError as error:
        raise Unusable("file", str(error)) from None
    except (KeyError, TypeError, ValueError):
        raise Unusable("file", f"{summary}: is not what a run wrote") from None


def _from_durations(rows: Rows, layout: Layout, first: int) -> tuple[dict[int, np.ndarray], dict[int, Any], str | None]:
    rows.column(layout.worker, "worker")
    read = read_durations(rows, layout)
    if not len(read.ticks):
        raise Unusable("file", f"{rows.path} holds no rows of kind `{layout.span}`; needed is at least one for each worker")
    order = np.argsort(read.workers, kind="stable")
    found, starts = np.unique(read.workers[order], return_index=True)
    numbers = found.tolist() if found.dtype.kind == "i" else None
    if numbers and numbers[0] < first:
        raise Unusable("first_worker", f"{rows.path} has rows of worker {numbers[0]}, and `first_worker` is {first}")
    indices = range(len(found)) if numbers is None else [number - first for number in numbers]
    durations = dict(zip(indices, np.split(read.ticks[order], starts[1:]), strict=True))
    return durations, dict(zip(indices, found.tolist(), strict=True)), read.zero


def _from_events(rows: Rows, span: str, run: _Run | None) -> dict[int, np.ndarray]:
    for name in EVENT_COLUMNS:
        rows.column(name, "file")
    kinds, complete = kinds_of(rows), truths_of(rows)
    workers, steps, start, end = (rows.whole(name, "file") for name in ("worker", "step", "start_ns", "end_ns"))
    spans(rows, span)  # refuses those that cannot be
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
