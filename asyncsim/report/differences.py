"""Compare runs: the fields of their scenarios, the moment at which their timelines part, and their metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from asyncsim.plots.fields import differing, scenario_fields
from asyncsim.plots.tables import called
from asyncsim.records import Result

SPAN = ("kind", "step", "start_ns", "end_ns", "complete")
NUMERIC = frozenset({"name", "engine", "device", "threads", "dtype", "records", "checkpoint"})
"""The sections of a scenario that change results by rounding only, or not at all."""
PUSH = ("worker", "step", "staleness", "outcome", "lr", "gap", "penalty", "loss")


def compare_runs(runs: Sequence[Result]) -> dict[str, Any]:
    """Plain data: ``runs`` (names), ``scenario`` ({field: a value a run}, where they differ), ``timelines`` and ``trajectories``
    (how each later run parts from the first), ``notes`` (what that means, where there is something to say, or None), ``numbers``
    ({number of the summary: a value a run}).
    """
    first, *others = runs
    return {
        "runs": [called(run) for run in runs],
        "scenario": {name: [scenario_fields(run).get(name) for run in runs] for name in differing(runs, frozenset())},
        "timelines": [first_event(first, run) for run in others],
        "trajectories": [first_push(first, run) for run in others],
        "notes": [rounding(first, run) for run in others],
        "numbers": _numbers(runs),
    }


def first_event(one: Result, other: Result) -> dict[str, Any]:
    """Where two timelines part: the worker whose spans differ earliest, and its span in each run (None: it has no more).

    ``same`` is None where that can't be told, as a run kept no events or has not ended. Spans are compared worker by worker, so
    an event that is only recorded elsewhere in the table is no difference.
    """
    prints = [run.fingerprints.get("timeline") for run in (one, other)]
    if prints[0] is not None and prints[0] == prints[1]:
        return {"same": True}
    left, right = one.events, other.events
    if not len(left) or not len(right):
        return {"same": None if None in prints else False, "why": "a run kept no events (`records.events`)"}
    places = [
        place
        for worker in sorted(set(left["worker"]) | set(right["worker"]))
        if (place := _parting(_spans(left, worker), _spans(right, worker))) is not None
    ]
    if not places:
        return {"same": True if None not in prints else None, "why": "all recorded events are the same"}
    at, worker, spans = min(places, key=lambda place: place[:2])
    return {"same": False, "time": at / 1e9, "worker": worker, "spans": [_span(span) for span in spans]}


def _spans(events: pd.DataFrame, worker: int) -> pd.DataFrame:
    return events[events["worker"] == worker]


def _parting(left: pd.DataFrame, right: pd.DataFrame) -> tuple[int, int, tuple[Any, Any]] | None:
    """(moment, worker, its spans) at which one worker's stories part: when the earlier of the two spans ends."""
    both = min(len(left), len(right))
    unlike = np.zeros(both, dtype=bool)
    for column in SPAN:
        unlike |= left[column].to_numpy()[:both] != right[column].to_numpy()[:both]
    if not unlike.any() and len(left) == len(right):
        return None
    place = int(unlike.argmax()) if unlike.any() else both
    one, other = (frame.iloc[place] if place < len(frame) else None for frame in (left, right))
    known = [span for span in (one, other) if span is not None]
    return min(int(span["end_ns"]) for span in known), int(known[0]["worker"]), (one, other)


def _span(span: Any) -> dict[str, Any] | None:
    if span is None:
        return None
    return {
        "kind": str(span["kind"]), "step": int(span["step"]), "start": float(span["start"]), "end": float(span["end"]),
        "complete": bool(span["complete"]),
    }  # fmt: skip


def first_push(one: Result, other: Result) -> dict[str, Any]:
    """The first push whose numbers differ: its place, time, column and the two values. ``same`` as in ``first_event``."""
    prints = [run.fingerprints.get("trajectory") for run in (one, other)]
    if prints[0] is not None and prints[0] == prints[1]:
        return {"same": True}
    unknown = {"same": None if None in prints else False}
    left, right = one.updates, other.updates
    if not len(left) or not len(right):
        return unknown | {"why": "a run kept no updates (`records.updates`)"}
    both = min(len(left), len(right))
    found = []
    for column in ("time_ns", *PUSH):
        a, b = (np.asarray(frame[column])[:both] for frame in (left, right))
        unlike = (a != b) & ~((a != a) & (b != b))
        if unlike.any():
            found.append((int(unlike.argmax()), column))
    if not found:
        return unknown | {"why": f"the first {both:,} pushes are the same"}
    place = min(place for place, _ in found)
    column = next(column for at, column in found if at == place)
    values = [_plain(frame[column].iloc[place]) for frame in (left, right)]
    time = min(float(frame["time"].iloc[place]) for frame in (left, right))
    return {"same": False, "push": place, "time": time, "column": column, "values": values}


def rounding(one: Result, other: Result) -> str | None:
    """A warning where nothing but rounding can tell two runs apart (engine, device, threads, precision, build, processor) and
    their method makes roundings grow."""
    if not all(run.manifest.get("amplifies_rounding") for run in (one, other)):
        return None
    if any(name.partition(".")[0] not in NUMERIC for name in differing((one, other), frozenset())):
        return None
    prints = [run.fingerprints.get("trajectory") for run in (one, other)]
    if None in prints or prints[0] == prints[1]:
        return None
    return (
        "both runs have one scenario and differ by rounding alone, which their method (elementwise Gap-Aware) amplifies: single "
        "values part by up to some per cent within a few thousand updates; compare means over several seeds (docs/determinism.md)"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):  # no number of JSON
        return None if math.isnan(value) else str(value)
    return value


def _numbers(runs: Sequence[Result]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for run in runs for name, value in run.summary.items() if not isinstance(value, dict))
    skipped = {"name", "method", "seed"}
    return {name: [_plain(run.summary.get(name)) for run in runs] for name in names if name not in skipped}
