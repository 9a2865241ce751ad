"""Laws that hold for every run, whatever the method and the faults."""

from __future__ import annotations

import numpy as np
import pytest

from asyncsim import Result
from asyncsim.units import nanoseconds

SHARES = ("wait", "download", "utilisation", "upload", "queue", "serve", "down", "lost", "unfinished")
STARTING = ("laga", "pipesgd")
CLOSING = ("async_local_sgd",)
"""Their updates come when a group of pushes is closed, which mostly is no arrival."""


def check_accounting(result: Result) -> None:
    """Pushes are applied, buffered or dropped; samples are those of the applied updates; versions count up by one. Methods
    that start with an update of nothing make it again when a crash of the server has taken it back."""
    updates, summary = result.updates, result.summary
    outcomes = updates["outcome"].value_counts()
    assert len(updates) == summary["pushes"] == outcomes.sum()
    assert summary["dropped"] == outcomes["dropped"]
    steps = np.diff(updates["version"], prepend=0)
    assert (steps >= 0).all()
    assert (updates["staleness"] >= 0).all()
    assert (updates["read_version"] >= 0).all()
    restarts = summary.get("server_restarts", 0)
    made = summary["updates"] + summary.get("lost_updates", 0)
    settled = made - outcomes["applied"]  # updates that a leaving worker set free, or zero_start made; not a push
    others = (summary["method"] in STARTING) * (1 + restarts) + (summary["method"] in CLOSING) * len(updates)
    assert 0 <= settled <= (result.events["kind"] == "stop").sum() + others
    if not settled and not restarts:
        assert (steps == (updates["outcome"] == "applied")).all()
    # `version` is the server's after the push, staleness is counted before it
    before = updates["version"] - (updates["outcome"] == "applied")
    assert (updates["staleness"] == before - updates["read_version"]).all()
    assert updates["time_ns"].is_monotonic_increasing
    assert not updates.duplicated(["worker", "step"]).any()


def check_spans(result: Result) -> None:
    """Spans of a worker are in order, do not overlap and leave no gap, from 0 to where the last one is still going on."""
    events, end = result.events, nanoseconds(result.summary["time"])
    for column in ("start_ns", "end_ns", "step", "version"):
        assert events[column].dtype == np.int64
    assert result.updates["time_ns"].dtype == np.int64
    length = events["end_ns"] - events["start_ns"]
    assert (length[events["complete"] & (events["kind"] != "stop")] > 0).all()
    assert (length >= 0).all()  # 0 only where work was called back, or a worker stopped, at once
    assert (events["end_ns"] <= end).all()
    for _, spans in events.groupby("worker"):
        stop = spans[spans["kind"] == "stop"]
        spans = spans[spans["kind"] != "stop"]
        assert spans["start_ns"].iloc[0] == 0
        assert (spans["start_ns"].to_numpy()[1:] == spans["end_ns"].to_numpy()[:-1]).all()
        assert spans["step"].is_monotonic_increasing
        if len(stop):
            assert len(stop) == 1
            assert stop["start_ns"].iloc[0] == stop["end_ns"].iloc[0] == spans["end_ns"].iloc[-1]


def check_shares(result: Result) -> None:
    """Shares of the workers' time: none negative, together 1, and what is unfinished is what no span covers."""
    summary, events = result.summary, result.events
    shares = {name: summary[name] for name in SHARES if name in summary}
    assert min(shares.values()) >= 0
    assert sum(shares.values()) == pytest.approx(1, abs=1e-9)
    covered = (events["end_ns"] - events["start_ns"]).sum() / (summary["workers"] * nanoseconds(summary["time"]))
    assert shares["unfinished"] == pytest.approx(1 - covered, abs=1e-9)


def check_all(result: Result) -> None:
    assert np.isfinite(result.summary["time"])
    check_accounting(result)
    if result.summary["time"]:
        check_spans(result)
        check_shares(result)


def applied(result: Result) -> np.ndarray:
    """Staleness of every push that was applied by itself."""
    return result.updates.loc[result.updates["outcome"] == "applied", "staleness"].to_numpy()


def log(result: Result, most: int) -> list[tuple[str, int, int, int]]:
    """The first events as (kind, worker, start in seconds, end in seconds); all times must be whole seconds."""
    rows = result.events.head(most)
    assert (rows["start_ns"] % 10**9 == 0).all()
    assert (rows["end_ns"] % 10**9 == 0).all()
    columns = zip(rows["kind"], rows["worker"], rows["start_ns"] // 10**9, rows["end_ns"] // 10**9, strict=True)
    return [(str(kind), int(worker), int(start), int(end)) for kind, worker, start, end in columns]
