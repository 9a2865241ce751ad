"""The columns of the three tables of a run. Times are integer nanoseconds of virtual time."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterable
from typing import Any, NamedTuple

EVENT_KINDS = ("wait", "download", "compute", "upload", "queue", "serve", "down", "stop", "forward", "backward", "inference")
"""What a worker does in a span of virtual time:

``wait`` for the consistency rule or another stage, ``download`` parameters, ``compute``, ``upload`` a result, ``queue`` at the
server, ``serve`` (the server receives and applies it), ``down`` after a crash, ``stop`` (left for good; an instant). One stage of
a pipeline does ``forward`` and ``backward`` passes; where both passes of one batch are done in one go, that is ``compute``; a
forward pass that no backward pass will follow is ``inference``.
"""

WORK = ("compute", "forward", "backward", "inference")
"""The kinds of spans in which a worker computes."""

NOTHING_LOST = ("wait", "queue", "serve", "down")
"""Kinds of spans that lose no work when they are cut short, since what has reached the server stays there."""

OUTCOMES = ("applied", "buffered", "dropped")
"""What became of a push on its arrival. A ``buffered`` push is part of a later update."""

EVENTS = {
    "kind": "int8",  # index into EVENT_KINDS
    "worker": "int32",
    "step": "int64",  # the number of the attempt, counted by worker
    "version": "int64",  # of the snapshot it works on; -1 where there is none
    "start_ns": "int64",
    "end_ns": "int64",
    "complete": "bool",  # False: cut short by a crash, a recall or a stop, or given up
}

UPDATES = {
    "time_ns": "int64",  # of the arrival, after queueing and service
    "worker": "int32",
    "step": "int64",
    "read_version": "int64",
    "version": "int64",  # of the server after this push
    "staleness": "int64",  # versions
    "outcome": "int8",  # index into OUTCOMES
    "lr": "float64",
    "gap": "float64",  # L2 distance between snapshot and server parameters
    "penalty": "float64",  # what the update was divided by (mean over the parameters)
    "loss": "float64",  # training loss of the batch (of the union, for means in one pass); NaN if never computed
}


def counts(outcome: Any) -> Any:
    """Which pushes count, of a column of outcomes (indices into ``OUTCOMES``): all but those that were dropped."""
    return outcome != OUTCOMES.index("dropped")


class SpanRow(NamedTuple):
    """A row of the events table, as observers see it. Times are nanoseconds; the columns are those of ``EVENTS``."""

    kind: int
    worker: int
    step: int
    version: int
    start_ns: int
    end_ns: int
    complete: bool


def row_type(name: str, columns: Iterable[str]) -> Any:
    """The class of the rows of a table whose columns differ from run to run: a named tuple with one field a column. A column
    whose name is no identifier is ``_`` and its place, counted from 0."""
    return namedtuple(name, columns, rename=True)


def with_notes(notes: Iterable[str]) -> dict[str, str]:
    """The columns of the updates table in a run whose method notes numbers of its own; these stand before the loss."""
    columns = dict(UPDATES)
    loss = columns.pop("loss")
    return {**columns, **dict.fromkeys(notes, "float64"), "loss": loss}


METRICS = {"time_ns": "int64", "version": "int64", "pushes": "int64", "samples": "int64", "lr": "float64"}
"""Columns of the metrics table that every run has; those of the task follow, such as ``test_accuracy``."""

COSTS = ("cost", "energy")
"""The columns of the metrics table in runs with prices: dollars and joules spent so far. They stand before those of the task."""
