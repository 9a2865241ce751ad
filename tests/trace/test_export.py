"""The trace of a run: the format's rules, exact counts and times against the tables, and size."""

from __future__ import annotations

import gzip
import json
import math
import time
import tracemalloc
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.errors import UserError
from asyncsim.records import Result
from asyncsim.trace import write_trace

REQUIRED = {
    "X": {"name", "cat", "pid", "tid", "ts", "dur", "args"},
    "i": {"name", "cat", "pid", "tid", "ts", "s"},
    "s": {"name", "cat", "id", "pid", "tid", "ts"},
    "t": {"name", "cat", "id", "pid", "tid", "ts"},
    "f": {"name", "cat", "id", "pid", "tid", "ts", "bp"},
    "C": {"name", "pid", "ts", "args"},
    "M": {"name", "pid", "tid", "args"},
}  # fmt: skip
CLUSTERS = {
    "plain": {},
    "queue": {
        "uplink": {"latency": "80ms"}, "downlink": "20ms", "server": {"service": {"kind": "exponential", "mean": "180ms"}},
    },
    "crashes": {
        "faults": {"up": {"kind": "exponential", "mean": "6s"}, "down": "2s"}, "server": {"service": "150ms"},
        "events": [{"at": "8s", "workers": [1], "stop": True}],
    },
}  # fmt: skip


def strict(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


def read(path: Path) -> dict:
    content = path.read_bytes()
    return json.loads(gzip.decompress(content) if path.suffix == ".gz" else content, parse_constant=strict)


def ns(microseconds: float) -> int:
    return round(microseconds * 1000)


@pytest.mark.parametrize("cluster", CLUSTERS.values(), ids=CLUSTERS)
def test_the_format(make, tmp_path, cluster):
    result = asyncsim.simulate(make(cluster, method="ssp"))
    assert write_trace(result, tmp_path / "t.json") == len(read(tmp_path / "t.json")["traceEvents"])
    trace = read(tmp_path / "t.json")
    assert trace["displayTimeUnit"] in ("ms", "ns")
    phases = defaultdict(list)
    for event in trace["traceEvents"]:
        assert REQUIRED[event["ph"]] <= set(event)
        assert math.isfinite(event.get("ts", 0.0))
        assert event.get("ts", 0.0) >= 0.0
        phases[event["ph"]].append(event)

    spans = [event for event in phases["X"] if event["cat"] == "worker"]
    rows = result.events[result.events["kind"] != "stop"]
    assert Counter(event["name"] for event in spans) == {k: n for k, n in rows["kind"].value_counts().items() if n}
    assert len(phases["i"]) == (result.events["kind"] == "stop").sum()
    expected = rows[["worker", "start_ns", "end_ns", "step", "version", "complete"]].to_numpy().tolist()
    told = [
        [e["tid"] - 2, ns(e["ts"]), ns(e["ts"]) + ns(e["dur"]), e["args"]["step"], e["args"]["version"], e["args"]["complete"]]
        for e in spans
    ]
    assert told == expected
    server = [event for event in phases["X"] if event["cat"] == "server"]
    assert [ns(e["ts"]) + ns(e["dur"]) for e in server] == result.updates["time_ns"].tolist()
    assert [e["args"]["staleness"] for e in server] == result.updates["staleness"].tolist()
    assert all(event["dur"] >= 0 for event in phases["X"])

    lanes = defaultdict(list)
    for event in phases["X"]:
        lanes[event["tid"]].append((ns(event["ts"]), ns(event["ts"]) + ns(event["dur"])))
    for lane in lanes.values():  # slices of a lane may touch, not overlap
        lane.sort()
        assert all(before[1] <= after[0] for before, after in pairwise(lane))

    ids = [[event["id"] for event in phases[phase]] for phase in "stf"]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids[0])) == len(ids[0]) == len(result.updates)
    for begin, step, end in zip(phases["s"], phases["t"], phases["f"], strict=True):
        assert begin["ts"] <= step["ts"] <= end["ts"]
        assert begin["tid"] == step["tid"] != end["tid"] == 1
        for event in (begin, step, end):  # both ends of an arrow lie in a slice of their lane
            assert any(low <= ns(event["ts"]) <= high for low, high in lanes[event["tid"]])
        assert len({(event["name"], event["cat"]) for event in (begin, step, end)}) == 1
    reads = {(e["tid"] - 2, ns(e["ts"])) for e in phases["s"]}
    work = result.events[result.events["kind"].isin(["download", "compute"])]
    assert reads <= set(zip(work["worker"], work["start_ns"], strict=True))

    counters = Counter(event["name"] for event in phases["C"])
    assert counters["staleness"] == counters["gap"] == counters["loss"] == len(result.updates)
    assert counters["test_accuracy"] == counters["lr"] == len(result.metrics)
    queue = [event["args"]["value"] for event in phases["C"] if event["name"] == "queue length"]
    assert queue[0] == 0
    assert min(queue) == 0
    assert (max(queue) > 0) == bool((result.events["kind"] == "queue").any())

    names = {event["tid"]: event["args"]["name"] for event in phases["M"] if event["name"] == "thread_name"}
    assert names == {1: "server"} | {worker + 2: f"worker {worker}" for worker in range(5)}
    order = {event["tid"]: event["args"]["sort_index"] for event in phases["M"] if event["name"] == "thread_sort_index"}
    assert sorted(order, key=order.get) == sorted(names)
    assert {event["pid"] for event in trace["traceEvents"]} == {1}
    assert any(event["name"] == "process_name" for event in phases["M"])


def test_a_plan_and_a_diverged_run_give_valid_json(make, tmp_path):
    write_trace(asyncsim.plan(make()), tmp_path / "plan.json")
    names = {event["name"] for event in read(tmp_path / "plan.json")["traceEvents"] if event["ph"] == "C"}
    assert names == {"staleness", "queue length", "lr"}
    diverged = asyncsim.simulate(make(optimizer={"kind": "sgd", "lr": 1e30}, task={"kind": "digits", "model": {"kind": "mlp"}}))
    assert diverged.summary["status"] == "diverged"
    write_trace(diverged, tmp_path / "diverged.json")
    assert read(tmp_path / "diverged.json")["traceEvents"]


def test_a_piece_of_it(make, tmp_path):
    result = asyncsim.plan(make())
    write_trace(result, tmp_path / "piece.json", start=5.0, end=8.0)
    spans = [event for event in read(tmp_path / "piece.json")["traceEvents"] if event.get("cat") == "worker"]
    inside = (result.events["end"] >= 5) & (result.events["start"] <= 8)
    assert 0 < len(spans) == inside.sum() < len(result.events)
    with pytest.raises(UserError, match="before it starts"):
        write_trace(result, tmp_path / "never.json", start=5.0, end=5.0)
    assert not (tmp_path / "never.json").exists()


def test_the_command(make, tmp_path, capsys):
    result = asyncsim.simulate(make(), tmp_path / "run")
    assert main(["trace", str(tmp_path / "run")]) == 0
    assert "ui.perfetto.dev" in capsys.readouterr().out
    assert main(["trace", str(tmp_path / "run"), "--out", str(tmp_path / "t.json.gz")]) == 0
    assert read(tmp_path / "run" / "trace.json") == read(tmp_path / "t.json.gz")
    assert read(tmp_path / "t.json.gz")["otherData"]["timeline"] == result.fingerprints["timeline"]
    assert main(["trace", str(tmp_path / "run"), "--start", "2s", "--end", "2500ms", "--out", str(tmp_path / "p.json")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["p.json", "run", "t.json.gz"]
    capsys.readouterr()
    for arguments, words in [
        (["nowhere"], "not a run folder"),
        ([str(tmp_path / "run"), "--out", str(tmp_path)], "is a folder"),
        ([str(tmp_path / "run"), "--out", str(tmp_path / "no" / "t.json")], "there is no folder"),
    ]:
        assert main(["trace", *arguments]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(SystemExit) as error:
        main(["trace", str(tmp_path / "run"), "--end", "soon"])
    assert error.value.code == 2
    assert "invalid duration" in capsys.readouterr().err


def test_a_run_without_events(make, tmp_path):
    result = asyncsim.plan(make(records={"events": False}))
    with pytest.raises(UserError, match="kept no events"):
        write_trace(result, tmp_path / "t.json")
    without_updates = asyncsim.plan(make(records={"updates": False}))
    write_trace(without_updates, tmp_path / "t.json")
    phases = {event["ph"] for event in read(tmp_path / "t.json")["traceEvents"]}
    assert "X" in phases
    assert "s" not in phases


def large(count: int) -> Result:
    """A made-up run of ``count`` compute spans, each of which is pushed."""
    index = np.arange(count)
    worker, step = (index % 64).astype(np.int32), index // 64
    start = step * 1_000_000_007 + worker
    events = {
        "kind": np.full(count, 2, np.int8), "worker": worker, "step": step, "version": index, "start_ns": start,
        "end_ns": start + 900_000_001, "complete": np.ones(count, bool),
    }  # fmt: skip
    updates = {
        "time_ns": start + 900_000_001, "worker": worker, "step": step, "read_version": index, "version": index + 1,
        "staleness": index % 64, "outcome": np.zeros(count, np.int8), "lr": np.full(count, 0.1), "gap": index / 7,
        "penalty": np.ones(count), "loss": index / 3,
    }  # fmt: skip
    manifest = {"name": "large", "hash": "0", "versions": {}, "fingerprints": {}}
    return Result({"workers": 64}, manifest, {"events": events, "updates": updates, "metrics": None})


def test_a_hundred_thousand_events_in_a_few_seconds_and_little_memory(tmp_path):
    result = large(100_000)
    started = time.perf_counter()
    count = write_trace(result, tmp_path / "t.json")
    assert time.perf_counter() - started < 10.0
    assert count == 8 * 100_000 + 133
    small = large(30_000)
    tracemalloc.start()
    write_trace(small, tmp_path / "t.json")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.6 * (tmp_path / "t.json").stat().st_size  # the tables' copies and one chunk


def test_a_failure_leaves_the_old_file(make, tmp_path, monkeypatch):
    (tmp_path / "t.json").write_text("old")
    monkeypatch.setattr("asyncsim.trace.export._queue", lambda events: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_trace(asyncsim.plan(make()), tmp_path / "t.json")
    assert [path.name for path in tmp_path.iterdir()] == ["t.json"]
    assert (tmp_path / "t.json").read_text() == "old"
