"""The trace of a pipeline: lanes by group and stage, passes by batch, an arrow for every activation and error signal."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

import asyncsim
from asyncsim.records.rows import WORK
from asyncsim.trace import write_trace


@pytest.mark.parametrize("method", ["fdg", "pipedream", "ddg", {"kind": "gpipe", "micro_batches": 4}])
def test_lanes_passes_messages_and_the_stash(make, tmp_path, method):
    task = {"kind": "digits", "model": {"kind": "mlp", "hidden": [8] * 5}, "batch": 8}
    fleet = {"workers": 6, "compute": {"kind": "gamma", "mean": "3s", "cv": 0.2}, "uplink": {"latency": "50ms"}}
    result = asyncsim.plan(make(fleet, task=task, stages=3, method=method, run={"updates": 20}))
    write_trace(result, tmp_path / "t.json")
    trace = json.loads((tmp_path / "t.json").read_text())["traceEvents"]

    lanes = {event["tid"]: event["args"]["name"] for event in trace if event["name"] == "thread_name"}
    assert lanes == {1: "server"} | {2 + 3 * s + k: f"group {s + 1}, stage {k + 1}" for s in range(2) for k in range(3)}
    spans = [event for event in trace if event["ph"] == "X" and event["cat"] == "worker"]
    passes = result.events[result.events["kind"].isin(WORK)]
    assert {f"{kind} {step}" for kind, step in zip(passes["kind"], passes["step"], strict=True)} < {e["name"] for e in spans}

    starts, ends = ([e for e in trace if e["ph"] == phase and e.get("cat") == "message"] for phase in "sf")
    assert [e["id"] for e in starts] == [e["id"] for e in ends] == list(range(len(starts)))
    done = {
        way: {(row.worker, row.step): (row.start_ns, row.end_ns) for row in passes[passes["kind"] != other].itertuples()}
        for way, other in ((1, "backward"), (-1, "forward"))
    }
    expected = {
        (worker, worker + way, step)
        for way, places in done.items() for worker, step in places
        if (worker + way, step) in places and worker // 3 == (worker + way) // 3
    }  # fmt: skip
    told = set()
    for start, end in zip(starts, ends, strict=True):
        source, target, step = start["tid"] - 2, end["tid"] - 2, int(start["name"].split()[-1])
        way = target - source
        assert start["name"] == end["name"] == f"{'activation' if way == 1 else 'error signal'} {step}"
        assert round(start["ts"] * 1000) == done[way][source, step][1] - 1
        assert round(end["ts"] * 1000) == done[way][target, step][0]
        assert start["ts"] < end["ts"]
        told.add((source, target, step))
    assert told == expected
    assert len(told) == len(starts)

    stash = [(event["ts"], event["args"]["value"]) for event in trace if event["name"] == "stash"]
    assert stash[0] == (0.0, 0)
    assert all(before[0] < after[0] for before, after in pairwise(stash))
    assert min(value for _, value in stash) == 0
    assert max(value for _, value in stash) <= 2 * result.summary["stash_peak"]
