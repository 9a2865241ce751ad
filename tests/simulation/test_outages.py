"""Preemption with a warning, zones, maintenance, joining and leaving, load, scripts: logs worked out by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from laws import check_all, log

import asyncsim
from asyncsim.cluster import Cluster, Load, SpotDown, SpotUp
from asyncsim.errors import UserError
from asyncsim.units import NANOSECONDS


def planned(make, workers=1, compute="2s", seconds=20, method="asgd", **cluster):
    result = asyncsim.plan(make(workers, compute, method, cluster=cluster, run={"time": seconds}))
    check_all(result)
    return result


def spans(result, kind, worker=0):
    chosen = result.events[(result.events["kind"] == kind) & (result.events["worker"] == worker)]
    return list(zip(chosen["start_ns"] / NANOSECONDS, chosen["end_ns"] / NANOSECONDS, strict=True))


def test_a_warned_worker_finishes_and_begins_nothing_new(make):
    """Up for 9 s, warned at 7: the round of 6 to 8 is pushed, then it waits for its end. Without a warning a second of the next
    round is lost. With a warning longer than it is up it never works after the first life."""
    result = planned(make, faults={"up": "9s", "down": "3s", "warning": "2s"})
    assert log(result, 8) == [
        *(("compute", 0, start, start + 2) for start in (0, 2, 4, 6)), ("wait", 0, 8, 9), ("down", 0, 9, 12),
        ("compute", 0, 12, 14), ("compute", 0, 14, 16),
    ]  # fmt: skip
    assert "lost" not in result.summary
    assert planned(make, faults={"up": "9s", "down": "3s"}).summary["lost"] == pytest.approx(1 / 20)
    late = planned(make, faults={"up": "1s", "down": "3s", "warning": "2s"})
    assert late.summary["pushes"] == 0


def test_a_warning_changes_no_life(make):
    """Down times of memoryless lives are the same with and without warning."""
    faults = {"up": {"kind": "exponential", "mean": 10}, "down": {"kind": "exponential", "mean": 2}}
    plain, warned = (planned(make, 3, seconds=200, faults=faults | more) for more in ({}, {"warning": "1s"}))
    for worker in range(3):
        assert spans(plain, "down", worker) == spans(warned, "down", worker)
    assert warned.summary.get("lost", 0) < plain.summary["lost"]


def test_presets_in_one_line(make):
    """A name is the fitted lives, the absences and Amazon's two minutes; what is given as well replaces a part."""
    cluster = Cluster.model_validate({"workers": 6, "faults": "aws_r5", "zones": {"preset": "aws_v100_preemption", "whole": 1}})
    assert (cluster.faults.up, cluster.faults.down, cluster.faults.warning) == (SpotUp(fleet="r5"), SpotDown(), 120.0)
    assert (cluster.zones.gap, cluster.zones.spread, cluster.zones.whole) == (SpotUp(fleet="v100_preemption"), 180.0, 1.0)
    assert Cluster.model_validate(cluster.model_dump(mode="json", exclude_none=True)) == cluster


def test_a_zone_goes_together(make):
    """Two zones of three; every event takes a whole zone. Gaps of 10 s from the end of the event before."""
    zones = {"zones": 2, "gap": "10s", "down": "2s", "whole": 1}
    result = planned(make, 6, "1s", seconds=30, zones=zones)
    for worker in range(6):
        assert spans(result, "down", worker) == [(10, 12), (22, 24)]


def test_part_of_a_zone_goes(make):
    """With ``whole`` 0 an event takes 1 to n - 1 of n, uniformly: for n = 8 mean and variance are 4; each worker is in half."""
    zones = {"zones": [8], "gap": "3s", "down": "1s", "whole": 0}
    result = planned(make, 8, "1s", seconds=4000, zones=zones)
    lost = result.events[result.events["kind"] == "down"].groupby("start_ns").size()
    assert set(lost) == set(range(1, 8))
    assert lost.mean() == pytest.approx(4, abs=4 * 2 / math.sqrt(len(lost)))
    shares = result.events[result.events["kind"] == "down"].groupby("worker").size() / len(lost)
    assert shares.to_numpy() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(lost)))


def test_losses_of_a_zone_are_spread(make):
    """Within 2 s after the warning of 1 s, each worker at a time of its own."""
    zones = {"zones": [5], "gap": "10s", "down": "1s", "whole": 1, "spread": "2s", "warning": "1s"}
    result = planned(make, 5, "100ms", seconds=15, zones=zones)
    starts = [spans(result, "down", worker)[0][0] for worker in range(5)]
    assert all(11 <= start <= 13 for start in starts)
    assert len(set(starts)) == 5


def test_maintenance_windows_recur(make):
    """From 5 s on every 10 s for 2 s, worker 1 alone; warned 1 s before."""
    windows = {"every": "10s", "duration": "2s", "first": "5s", "workers": [1], "warning": "1s"}
    result = planned(make, 2, "1s", seconds=30, maintenance=[windows])
    assert spans(result, "down", 1) == [(5, 7), (15, 17), (25, 27)]
    assert spans(result, "down", 0) == []
    assert spans(result, "wait", 1) == [(4, 5), (14, 15), (24, 25)]


def test_outages_overlap(make):
    """A crash within another: down until the later end; and one within an absence is not felt."""
    events = [{"at": "2s", "workers": [0], "down": "5s"}, {"at": "4s", "workers": [0], "down": "1s"}]
    events += [{"at": "12s", "workers": [0], "leave": True}, {"at": "13s", "workers": [0], "down": "9s"}]
    events += [{"at": "15s", "workers": [0], "join": True}]
    result = planned(make, 1, "1s", events=events)
    assert [spans(result, "down")[0][0], spans(result, "down")[-1][1]] == [2, 15]
    assert sum(end - start for start, end in spans(result, "down")) == 5 + 3
    assert all(before[1] <= after[0] for before, after in pairwise(spans(result, "down")))


@pytest.mark.parametrize("method", ["bsp", {"kind": "custom", "policy": [{"kind": "accumulate"}], "consistency": "bsp"}])
def test_a_barrier_is_of_those_who_are_there(make, method):
    """Two of four join at 3.5 s and leave at 8.5 s for good: an update takes 2 pushes, then 4, then 2."""
    events = [{"at": "3.5s", "workers": [2, 3], "join": True}, {"at": "8.5s", "workers": [2, 3], "leave": True}]
    result = planned(make, 4, "1s", seconds=12, method=method, events=events)
    pushes = result.updates.groupby(result.updates["version"] - (result.updates["outcome"] == "applied")).size()
    assert pushes.tolist()[:3] == [2, 2, 2]
    assert set(pushes.tolist()) == {2, 4}
    assert result.summary["updates"] == len(pushes)


def test_nobody_is_there_at_first(make):
    """All join at 3 s; joining is not a deadlock to wait for."""
    result = planned(make, 2, "1s", seconds=6.5, method="bsp", events=[{"at": "3s", "workers": [0, 1], "join": True}])
    assert spans(result, "down") == [(0, 3)]
    assert result.summary["updates"] == 3


def test_load_comes_and_goes(make):
    """Sinusoidal: the mean speed is 1 - depth / 2, in any number of steps; piecewise: factors 1 and 3, mean speed 2/3."""
    loads = [{"depth": 0.6, "steps": 24}, {"depth": 0.6, "steps": 5, "peak": "3s"}, {"factors": [1, 3]}]
    for load, speed in zip(loads, (0.7, 0.7, 2 / 3), strict=True):
        result = planned(make, 1, "10ms", seconds=100, load={"period": "10s", **load})
        assert result.summary["pushes"] == pytest.approx(100 * 100 * speed, abs=2)
    pieces = np.array(Load(period=10.0, depth=0.6, peak=0.0, steps=100).pieces())
    assert pieces.argmax() in (0, 99)
    assert pieces.max() == pytest.approx(1 / 0.4, rel=1e-3)
    assert pieces.min() == pytest.approx(1, rel=1e-3)


def test_loads_of_groups_differ(make):
    """A group's own load replaces the fleet's."""
    groups = [{"name": "day", "workers": 1}, {"name": "none", "workers": 1, "load": {"factors": [1, 1]}}]
    scenario = make(cluster={"workers": None, "load": {"factors": [2, 2]}, "groups": groups}, run={"time": "10.5s"})
    assert asyncsim.plan(scenario).updates["worker"].value_counts().to_dict() == {1: 10, 0: 5}


CSV = "at,workers,slowdown,duration,down,stop,leave,join\n2,0-1,3,4s,,,,\n5s,2,,,1.5,,,\n6,3 1,,,,true,,\n1,2,,,,,,true\n"
LINES = """{"at": 2, "workers": [0, 1], "slowdown": 3, "duration": "4s"}
{"at": "5s", "workers": [2], "down": 1.5}

{"at": 6, "workers": [3, 1], "stop": true}
{"at": 1, "workers": [2], "join": true}
"""
EVENTS = [
    {"at": 2, "workers": [0, 1], "slowdown": 3, "duration": "4s"}, {"at": "5s", "workers": [2], "down": 1.5},
    {"at": 6, "workers": [3, 1], "stop": True}, {"at": 1, "workers": [2], "join": True},
]  # fmt: skip


@pytest.mark.parametrize(("name", "text"), [("faults.csv", CSV), ("faults.jsonl", LINES)])
def test_a_script_is_its_events(make, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    script = str(tmp_path / name)
    plain = planned(make, 4, "1s", events=EVENTS)
    assert planned(make, 4, "1s", script=script).fingerprints["timeline"] == plain.fingerprints["timeline"]
    scenario = make(4, cluster={"script": script})
    (tmp_path / name).write_text(text + "\n")
    with pytest.raises(UserError, match="has changed"):
        scenario.evolve(seed=1)


DATES = "at;workers;slowdown;duration;down;stop;join\n# a comment\n" + "".join(
    f"2026-01-31T12:00:0{row}\n" for row in ("2;0-1;3;4s;;;", "5;2;;;1.5;;", "6;3 1;;;;true;", "1;2;;;;;true")
)


def test_a_script_may_hold_dates(make, tmp_path):
    """With `start`, the date that is time 0: the same events."""
    (tmp_path / "log.csv").write_bytes(DATES.encode("utf-16"))
    script = {"file": str(tmp_path / "log.csv"), "start": "2026-01-31T12:00:00"}
    plain = planned(make, 4, "1s", events=EVENTS)
    assert planned(make, 4, "1s", script=script).fingerprints["timeline"] == plain.fingerprints["timeline"]
    for start, words in {
        None: "`at` holds dates; give `start`", "today": "'today' is not a date",
        "2026-01-31T12:00:00Z": "line 3: .* an offset from UTC",
        "2026-01-31T12:00:02": "line 6: at: '2026-01-31T12:00:01' is before `start`",
    }.items():  # fmt: skip
        with pytest.raises(UserError, match=words):
            make(4, cluster={"script": script | {"start": start}})


@pytest.mark.parametrize(("name", "text", "words"), [
    ("a.csv", "at,workers,stop,stop\n1,0,true,false\n", ("'stop' comes twice",)),
    ("a.csv", "at,workers,stop\n1,0\n", ("line 2", "2 values for 3 columns")),
    ("a.csv", "at,workers,stop\n1,0-99999999999,true\n", ("line 2", "'0-99999999999'", "999,999")),
    ("a.csv", "at,workers,slowdown\n1_0,0,2\n", ("line 2", "at", "not a duration")),
    ("a.csv", "at,workers,slowdown\n1,0,1_0\n", ("line 2", "slowdown")),
    ("a.csv", "when,workers\n1,0\n", ("no column 'at'",)),
    ("/dev/zero", None, ("a device",)),
    ("a.csv", "at,workers,stop\n1,0,true\n2,9,true\n", ("cluster.script", "no worker 9")),
    ("a.csv", "at,workers,stopp\n1,0,true\n", ("line 2", "stopp")),
    ("a.csv", "at,workers,stop\n1,0-,true\n", ("line 2", "0 2 5-7")),
    ("a.jsonl", '{"at": 1, "workers": [0]}\n', ("line 1", "none of them")),
    ("a.jsonl", "nonsense\n", ("line 1",)),
])  # fmt: skip
def test_a_wrong_script_is_named_with_its_line(make, tmp_path, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        make(4, cluster={"script": str(tmp_path / name)})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(("cluster", "words"), [
    ({"zones": {"zones": 9, "gap": "1s", "down": "1s"}}, ("zones", "1 to 4")),
    ({"zones": {"zones": 2, "down": "1s"}}, ("zones.gap",)),
    ({"maintenance": [{"every": "1s", "duration": "1s"}]}, ("maintenance.0.duration", "every")),
    ({"maintenance": [{"every": "3s", "duration": "1s", "workers": [7]}]}, ("maintenance.0.workers.0", "no worker 7")),
    ({"events": [{"at": 1, "workers": [0], "leave": True}, {"at": 2, "workers": [0], "leave": True}]}, ("leave twice",)),
    ({"events": [{"at": 1, "workers": [0], "leave": True, "stop": True}]}, ("events.0", "stop, leave")),
    ({"load": {"period": "1h"}}, ("load.depth", "factors")),
    ({"faults": "aws_v1000"}, ("faults",)),
])  # fmt: skip
def test_what_does_not_fit_is_refused(make, cluster, words):
    with pytest.raises(UserError) as error:
        make(4, cluster=cluster)
    for word in words:
        assert word in str(error.value)
