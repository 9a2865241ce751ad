"""Virtual time: integer nanoseconds, no drift, and ties in the order of scheduling."""

from __future__ import annotations

import numpy as np
import pytest
from laws import log

import asyncsim
from asyncsim.simulation.progress import WorkerProgress
from asyncsim.units import nanoseconds


def test_no_drift(make):
    """1/3 s is 333,333,333 ns, and push k is at k times that, after 100,000 rounds as after one. Adding up floating-point seconds
    would be off (that they are is asserted)."""
    result = asyncsim.plan(make(1, 1 / 3, updates=100_000))
    times = result.updates["time_ns"].to_numpy()
    assert times.dtype == np.int64
    assert (times == 333_333_333 * np.arange(1, 100_001)).all()
    assert np.cumsum(np.full(100_000, 0.333333333))[-1] != times[-1] / 1e9
    assert result.events["start_ns"].to_numpy()[-1] == 99_999 * 333_333_333


def test_all_times_are_integers(make):
    """Every time column of every table, with every kind of span, and of every profile's draws."""
    cluster = {"uplink": "1.1ms", "downlink": {"latency": {"kind": "exponential", "mean": 1e-3}}, "server": {"service": 1e-3},
               "faults": {"up": {"kind": "exponential", "mean": 3}, "down": 0.7}}  # fmt: skip
    result = asyncsim.plan(make(3, {"kind": "exponential", "mean": 1}, "bsp", updates=100, cluster=cluster))
    assert set(result.events["kind"]) == {"wait", "download", "compute", "upload", "queue", "serve", "down"}
    for table in (result.events, result.updates, result.metrics):
        for column in table.columns[table.columns.str.endswith("_ns")]:
            assert table[column].dtype == np.int64
            seconds = column.removesuffix("_ns")
            assert (table[seconds] == table[column] / 1e9).all()


@pytest.mark.parametrize("mean", [1e-12, 0.4e-9])
def test_time_goes_on_however_short_a_batch(make, mean):
    """A compute time that rounds to 0 ns takes 1 ns: a run with a limit in time ends, and no span is empty."""
    result = asyncsim.plan(make(2, mean, run={"time": 100e-9}))
    assert result.summary["updates"] == 2 * 99
    assert (result.events["end_ns"] - result.events["start_ns"]).eq(1).all()


def test_ties_are_first_scheduled_first_served(make):
    """Times 2, 1, 1 s. At 2: worker 0's end was scheduled at 0, those of 1 and 2 at 1, so worker 0 is first; at 4 again, since it
    starts its second batch at 2 before the others start their third at 3."""
    fleet = {"overrides": {0: {"compute": "2s"}}}
    result = asyncsim.plan(make(3, "1s", updates=10, cluster=fleet))
    assert log(result, 10) == [
        ("compute", 1, 0, 1),
        ("compute", 2, 0, 1),
        ("compute", 0, 0, 2),
        ("compute", 1, 1, 2),
        ("compute", 2, 1, 2),
        ("compute", 1, 2, 3),
        ("compute", 2, 2, 3),
        ("compute", 0, 2, 4),
        ("compute", 1, 3, 4),
        ("compute", 2, 3, 4),
    ]
    assert result.updates["staleness"].tolist() == [0, 1, 2, 2, 2, 1, 1, 4, 2, 2]


def test_an_interrupt_goes_before_what_is_due(make):
    """A stop and a crash at 2: the batches that end at 2 are lost. So is one that ends in the instant of a stop at 1, although it
    was scheduled before that stop."""
    cluster = {
        "events": [{"at": "2s", "workers": [1], "stop": True}], "overrides": {2: {"faults": {"up": "2s", "down": "1s"}}},
    }  # fmt: skip
    result = asyncsim.plan(make(4, "1s", updates=6, cluster=cluster))
    assert log(result, 99)[4:] == [
        ("compute", 1, 1, 2),
        ("stop", 1, 2, 2),
        ("compute", 2, 1, 2),
        ("compute", 0, 1, 2),
        ("compute", 3, 1, 2),
    ]
    assert result.events["complete"].tolist() == [True] * 4 + [False, True, False, True, True]
    cluster["events"][0]["at"] = "1s"
    result = asyncsim.plan(make(4, "1s", updates=6, cluster=cluster))
    assert log(result, 2) == [("compute", 1, 0, 1), ("stop", 1, 1, 1)]
    assert 1 not in set(result.updates["worker"])


def test_recalled_workers_start_in_order_of_their_index(make):
    """K-sync, K = 2, 1 s a batch but for slowdowns. Round 1: workers 3, 2 deliver at 1, 2; worker 2 goes on at once, then those
    called back, 0 and 1, then 3, who waited. Round 2: 3, 1 deliver at 3, 4; called back are 0 and 2, in this order, although 2
    had read before 0. Round 3 takes 1 s for all, in the order of their starts: 1, 0, and that is the end.
    """
    slow = [(0, [0], 99, 4), (0, [1], 99, 2), (2, [1], 2, 2), (0, [2], 2, 2), (2, [2], 99, 2)]
    events = [{"at": at, "workers": who, "slowdown": factor, "duration": length} for at, who, factor, length in slow]
    result = asyncsim.plan(make(4, "1s", {"kind": "k_sync", "k": 2}, updates=3, cluster={"events": events}))
    assert log(result, 99) == [
        ("compute", 3, 0, 1),
        ("compute", 2, 0, 2),
        ("compute", 0, 0, 2),
        ("compute", 1, 0, 2),
        ("wait", 3, 1, 2),
        ("compute", 3, 2, 3),
        ("compute", 1, 2, 4),
        ("compute", 0, 2, 4),
        ("compute", 2, 2, 4),
        ("wait", 3, 3, 4),
        ("compute", 1, 4, 5),
        ("compute", 0, 4, 5),
    ]
    assert np.flatnonzero(~result.events["complete"]).tolist() == [2, 3, 7, 8]


@pytest.mark.parametrize("seconds", [1e-9, 0.1, 1 / 3, 2.5e-9, 1e6 + 1e-7])
def test_seconds_to_ticks(seconds):
    """To the nearest nanosecond."""
    assert isinstance(nanoseconds(seconds), int)
    assert abs(nanoseconds(seconds) - seconds * 1e9) <= 0.5


def test_clocks_of_workers_that_come_and_go():
    """Counts only. Three workers; 0 and 1 push, 2 crashes: the slowest is 1. Worker 2 comes back at clock 1. When all are down,
    the first that comes back sets the slowest clock, and the others follow it."""
    progress = WorkerProgress(3)
    for worker in (0, 1):
        progress.push(worker, 0, counts=True)
    assert progress.slowest() == 0
    progress.leave(2)
    assert progress.slowest() == 1
    progress.join(2)
    assert (progress.clock(2), progress.slowest()) == (1, 1)
    progress.push(0, 0, counts=True)
    progress.push(0, 0, counts=True)
    for worker in range(3):
        progress.leave(worker)
    progress.join(0)
    assert progress.slowest() == progress.clock(0) == 3
    progress.join(1)
    assert progress.clock(1) == 3
    assert progress.members == 3
    progress.depart(2)
    assert (progress.members, progress.departed) == (2, {2})
