"""Virtual time: integer nanoseconds, no drift, and ties in the order of scheduling."""

from __future__ import annotations

import json

import numpy as np
import pytest
from laws import log

import asyncsim
from asyncsim.cluster import speed
from asyncsim.errors import UserError
from asyncsim.scenario.problems import ScenarioError
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


def test_time_goes_on_however_short_a_batch(make):
    """A draw that rounds to 0 ns takes 1 ns: a run with a limit in time ends, and no span is empty."""
    result = asyncsim.plan(make(2, {"kind": "exponential", "mean": 1e-9}, run={"time": 100e-9}))
    spans = result.events["end_ns"] - result.events["start_ns"]
    assert spans.min() == 1
    assert spans.max() > 1


@pytest.mark.parametrize(
    "compute",
    [
        "0.1ns", {"kind": "exponential", "mean": 3e-10}, {"kind": "weibull", "scale": 1e-12, "shape": 2},
        {"kind": "scaled", "base": "1ns", "factor": 0.5}, {"kind": "tiers", "base": "1ns", "factors": [5, 0.5]},
        {"kind": "scaled", "base": {"kind": "tiers", "base": "4ns", "factors": [1, 0.5]}, "factor": 0.4},
    ],
)  # fmt: skip
def test_what_is_shorter_than_a_tick_is_refused(make, compute):
    """It would take a whole nanosecond, and so ten times what was asked for; links and services as well as computations."""
    for cluster in ({"compute": compute}, {"uplink": {"latency": compute}}, {"server": {"service": compute}}):
        with pytest.raises(ScenarioError, match=r"allowed is 1ns"):
            make(1, cluster.pop("compute", "1s"), cluster=cluster)
    make(1, {"kind": "tiers", "base": {"kind": "tiers", "base": "4ns", "factors": [1, 0.5]}, "factors": [1, 0.5]})


TOO_LATE = {
    "constant": ({"compute": 9e9}, r"`compute` of worker 0 begun at 9e\+09 s takes 9e\+09 s; are the durations time stamps"),
    "slowdown": ({"compute": 1, "events": [{"at": 1, "workers": [0], "slowdown": 1e300}]}, "`compute` of worker 0 .* 1e300 s$"),
    "service": ({"compute": 1, "server": {"service": 9e9}}, "a push of worker 0"),
    "latency": ({"compute": 1, "uplink": 9e9}, "`upload` of worker 0"),
    "bandwidth": ({"compute": 1, "downlink": {"bandwidth": 1e-9}}, r"`download` of worker 0 .*takes 4e\+23 s$"),
    "pipes": ({"compute": 1, "network": {"kind": "flat", "ingress": 1e-9}}, "`upload` of worker 0"),
    "faults": ({"compute": 1e5, "faults": {"up": 3600, "down": 9e9}}, "`down` of worker 0|an outage"),
    "load": ({"compute": 1, "load": {"period": 1e9, "factors": [1e10, 1e10]}}, "`compute` of worker 0"),
}


@pytest.mark.parametrize(("cluster", "words"), TOO_LATE.values(), ids=TOO_LATE)
def test_nothing_happens_after_the_end_of_time(make, monkeypatch, cluster, words):
    """Each duration is allowed and what comes of them is past 2^63 ns: one sentence, with --verify too, and no number wraps."""
    compute = cluster.pop("compute") if "compute" in cluster else "1s"
    scenario = make(1, compute, updates=50, cluster=cluster, message="400TB")
    for verify in ("", "1"):
        monkeypatch.setenv("ASYNCSIM_VERIFY", verify)
        with pytest.raises(UserError, match=words) as error:
            asyncsim.plan(scenario)
        assert "would pass its end, 2^63 ns (292 years), after update" in str(error.value)
    cluster["compute"] = compute


def test_a_run_past_the_end_of_time_is_a_failed_run(make, tmp_path):
    scenario = make(1, 1e9, updates=50)
    with pytest.raises(UserError, match="after update 9: `compute` of worker 0"):
        asyncsim.simulate(scenario, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "failed"
    assert len(asyncsim.load_result(tmp_path / "run").updates) == 9


@pytest.mark.parametrize(
    "cluster",
    [
        {"compute": {"kind": "two_state", "base": "1h", "factor": 4, "normal": "1us", "slow": "1us"}},
        {"compute": {"kind": "two_state", "base": "1us", "factor": 4, "normal": "1us", "slow": "1us"}, "uplink": "1h"},
        {"compute": "1h", "load": {"period": "1us", "factors": [1, 2]}},
    ],
)
def test_speed_that_changes_too_often_is_refused(make, monkeypatch, cluster):
    monkeypatch.setattr(speed, "MOST_SEGMENTS", 1000)
    allowed = {"updates": 5, "most_events": 10**15}  # else it is refused before it begins
    scenario = make(1, cluster["compute"], run=allowed, cluster={**cluster})
    with pytest.raises(UserError, match=r"changes its speed more than 1,000 times \(every [0-9.]+e-0[67] s\)"):
        asyncsim.plan(scenario)


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
