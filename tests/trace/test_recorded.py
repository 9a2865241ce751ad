"""Recorded durations: exact to the nanosecond, by worker and step, and what is said when a file will not do."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import asyncsim
from asyncsim.cluster import Recorded
from asyncsim.errors import UserError
from asyncsim.scenario.problems import ScenarioError
from asyncsim.simulation.worker import Costs, Worker
from asyncsim.streams import Streams
from asyncsim.units import nanoseconds

SPANS = {
    "asgd": {},
    "synchronous": {"method": "bsp"},
    "recalls": {"method": {"kind": "rennala", "batch": 7}},
    "k_sync": {"method": {"kind": "k_sync", "k": 3}},
    "stops_stale_work": {"method": {"kind": "ringmaster", "threshold": 3, "stops": True}},
    "local_steps": {"method": {"kind": "fedbuff", "buffer": 2, "local_steps": 3}},
    "links_and_queue": {"cluster": {
        "uplink": {"latency": {"kind": "exponential", "mean": "80ms"}, "bandwidth": "1MB/s"}, "downlink": "20ms",
        "server": {"service": "150ms"},
    }},
    "crashes": {"cluster": {"faults": {"up": {"kind": "exponential", "mean": "6s"}, "down": 2}, "server": {"service": "150ms"}}},
    "slow_for_a_while": {"cluster": {"compute": {
        "kind": "two_state", "base": {"kind": "gamma", "mean": 1, "cv": 0.3}, "factor": 5,
        "normal": {"kind": "exponential", "mean": 5}, "slow": {"kind": "exponential", "mean": 3},
    }}},
    "slowed_and_stopped": {"cluster": {"events": [
        {"at": "4s", "workers": [3], "slowdown": 7.3, "duration": "6s"}, {"at": "8s", "workers": [1], "stop": True},
    ]}},
    "a_worker_that_never_finishes": {"cluster": {"overrides": {4: {"compute": "1h"}}}},
    "ended_by_time": {"run": {"time": "37s"}},
}  # fmt: skip


@pytest.mark.parametrize("sections", SPANS.values(), ids=SPANS)
@pytest.mark.parametrize("form", ["folder", "csv"])
def test_a_run_replays_exactly(make, tmp_path, sections, form):
    """The same scenario with compute times from a recorded run has the run's timeline; overrides of workers are replaced too."""
    scenario = make(**sections)
    first = asyncsim.simulate(scenario, tmp_path / "first")
    source = "first"
    if form == "csv":
        if "never_finishes" in str(sections) or "1h" in str(sections) or "time" in scenario.run.model_dump(exclude_none=True):
            pytest.skip("events alone do not tell of a worker without any, nor when the run ended")
        first.events.to_csv(tmp_path / "events.csv", index=False)
        source = "events.csv"
    recorded = {"kind": "recorded", "file": str(tmp_path / source)}
    document = scenario.document()
    document["cluster"].pop("overrides", None)
    document["cluster"]["compute"] = recorded
    replay = asyncsim.scenario.build_scenario(asyncsim.scenario.Document(document, "replay"))
    assert asyncsim.plan(replay).fingerprints["timeline"] == first.fingerprints["timeline"]
    if form == "folder":
        again = asyncsim.simulate(replay)
        assert again.fingerprints == first.fingerprints


def test_a_longer_run_says_that_rows_are_missing_or_repeats_or_stops(make, tmp_path):
    asyncsim.simulate(make(), tmp_path / "first")
    longer = {"run": {"updates": 400}}
    with pytest.raises(
        UserError, match=r"events.*: worker \d has \d+ rows and needs row \d+; allowed are `end: repeat`"
    ) as error:
        asyncsim.plan(make({"compute": {"kind": "recorded", "file": "first/events.parquet"}}, **longer))
    assert "\n" not in str(error.value)
    repeated = asyncsim.plan(make({"compute": {"kind": "recorded", "file": "first", "end": "repeat"}}, **longer))
    assert repeated.summary["updates"] == 400
    with pytest.raises(UserError, match="every worker has left"):
        asyncsim.plan(make({"compute": {"kind": "recorded", "file": "first", "end": "stop"}}, **longer))


def test_a_worker_without_rows_left_leaves(make, tmp_path):
    (tmp_path / "t.csv").write_text("worker,seconds\n" + "0,1\n" * 3 + "1,2\n" * 50)
    compute = {"kind": "recorded", "file": "t.csv", "end": "stop"}
    events = [{"at": "20s", "workers": [0], "stop": True}]  # it has left by then
    result = asyncsim.plan(make({"workers": 2, "compute": compute, "events": events}, run={"updates": 20}))
    stops = result.events[result.events["kind"] == "stop"]
    assert stops[["worker", "start"]].to_numpy().tolist() == [[0, 3.0]]
    assert result.events[result.events["kind"] == "compute"].groupby("worker").size().to_dict() == {0: 3, 1: 17}
    assert result.events["complete"].all()


def test_one_hundred_thousand_durations_come_back_to_the_nanosecond(tmp_path):
    """Up to 285 years, far beyond where seconds in a float tell one nanosecond from the next."""
    rng = np.random.default_rng(0)
    ticks = np.concatenate([
        rng.integers(1, 10**6, 30_000), rng.integers(1, 10**12, 30_000), rng.integers(2**51, 2**53, 20_000),
        rng.integers(2**53, 9 * 10**18, 20_000),
    ])  # fmt: skip
    events = pd.DataFrame({
        "kind": "compute", "worker": 0, "step": np.arange(len(ticks)), "version": 0, "start_ns": 0, "end_ns": ticks,
        "complete": True,
    })  # fmt: skip
    events.to_parquet(tmp_path / "t.parquet")
    events.head(1000).to_csv(tmp_path / "t.csv", index=False)
    draws = Recorded(file=str(tmp_path / "t.parquet")).draws(Streams(0), "compute", 0)
    assert [nanoseconds(draws[step]) for step in range(len(ticks))] == ticks.tolist()
    from_csv = Recorded(file=str(tmp_path / "t.csv")).draws(Streams(0), "compute", 0)
    assert [nanoseconds(from_csv[step]) for step in range(1000)] == ticks[:1000].tolist()


def test_large_times_survive_a_worker(make, tmp_path):
    """From the table to the instant at which the work is done, with the speed of the machine in between."""
    ticks = [2**53 + 1, 2**60 + 12345, 8_999_999_999_999_999_999]
    rows = [{"kind": 2, "worker": 0, "step": i, "start_ns": 0, "end_ns": t, "complete": True} for i, t in enumerate(ticks)]
    pd.DataFrame(rows).to_parquet(tmp_path / "t.parquet")
    profile = make({"workers": 1, "compute": {"kind": "recorded", "file": "t.parquet"}}).cluster.profile(0)
    worker = Worker(profile, Streams(0), Costs())
    for worker.step in range(3):
        assert worker.finish(0, worker.seconds(1)) == ticks[worker.step]


def test_each_worker_takes_its_rows_in_order(make, tmp_path):
    frame = pd.DataFrame({"seconds": [3, 1, 4, 1.5, 9], "worker": [1, 0, 1, 0, 0], "kind": ["compute"] * 4 + ["upload"]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        delay = Recorded(file=str(tmp_path / name), end="repeat", scale=2.0)
        draws = [delay.draws(Streams(0), "compute", worker) for worker in (0, 1)]
        assert [draws[0][step] for step in range(5)] == [2, 3, 2, 3, 2]
        assert [draws[1][step] for step in range(3)] == [6, 8, 6]
        assert draws[1].total(0, 3) == 20
        upload = Recorded(file=str(tmp_path / name), span="upload")
        assert upload.draws(Streams(0), "uplink", 0)[0] == 9
        with pytest.raises(UserError, match=r"no rows of kind `upload` for worker 1; there are rows for 0"):
            upload.draws(Streams(0), "uplink", 1)


def test_other_names_of_columns_and_links(make, tmp_path):
    (tmp_path / "t.csv").write_text("\ufeffrank,up\n0,0.25\n\n1,0.5\n")
    link = {"latency": {"kind": "recorded", "file": "t.csv", "worker": "rank", "column": "up", "unit": "s", "end": "repeat"}}
    result = asyncsim.plan(make({"workers": 2, "compute": "1s", "uplink": link}, run={"updates": 6}))
    uploads = result.events[result.events["kind"] == "upload"]
    assert ((uploads["end"] - uploads["start"]) == uploads["worker"].map({0: 0.25, 1: 0.5})).all()


def test_a_recorded_run_has_a_hash_of_its_content(make, tmp_path):
    (tmp_path / "t.csv").write_text("worker,seconds\n0,1\n")
    before = make({"workers": 1, "compute": {"kind": "recorded", "file": "t.csv"}})
    document = before.document()
    assert document["cluster"]["compute"]["sha256"]
    (tmp_path / "t.csv").write_text("worker,seconds\n0,2\n")
    assert make({"workers": 1, "compute": {"kind": "recorded", "file": "t.csv"}}).hash != before.hash
    with pytest.raises(ScenarioError, match=r"t\.csv has changed"):
        make(document["cluster"])


HEAD = "kind,worker,step,version,start_ns,end_ns,complete\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["no column 'worker'", "none"]),
        ("worker,second\n0,1\n", ["no column 'seconds'; did you mean `second`", "worker, second"]),
        ("worker,seconds\n", ["holds no rows"]),
        ("worker,seconds\n0,1\n\n0,-2\n", ["line 4", "column 'seconds'", "'-2'", "from 0"]),
        ("worker,seconds\n0,1\n0,nan\n", ["line 3", "'nan'", "from 0"]),
        ("worker,seconds\n0,1\n0,\n", ["line 3", "''"]),
        ("worker,seconds\n0,1\n0,1e10\n", ["line 3", "'1e10'", "to 9e+09"]),
        ("worker,seconds\n0,1\n1.5,1\n", ["line 3", "column 'worker'", "'1.5'", "whole number"]),
        ("worker,seconds\n0,1\n-1,1\n", ["line 3", "-1 is not a whole number from 0"]),
        ("worker,seconds\n0,1\n0,1,2\n", ["line 3", "3 values for 2 columns"]),
        ("worker,seconds,kind\n0,1,comptue\n", ["line 2", "'comptue'", "wait, download"]),
        ("worker,seconds,kind\n0,1,upload\n", ["no rows of kind `compute`"]),
        (HEAD + "compute,0,0,0,5,3,True\n", ["line 2", "ends at 3 ns, before"]),
        (HEAD + "compute,0,0,0,1,3,True\ncompute,0,0,0,5,7,True\n", ["line 3", "a second `compute`", "step 0"]),
        (HEAD + "compute,0,0,0,1,3,maybe\n", ["line 2", "'maybe'", "neither true nor false"]),
        (HEAD + "compute,0,0,0,1,3.5,True\n", ["line 2", "column 'end_ns'", "'3.5'"]),
        ("worker,start_ns,end_ns\n0,1,2\n", ["no column 'kind'"]),
        ("PAR1 and nothing else", ["cannot be read as Parquet"]),
        ("\x00\xff", ["is not UTF-8 text"]),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_in_one_message(make, tmp_path, content, words):
    (tmp_path / "bad.csv").write_bytes(content.encode("latin-1"))
    with pytest.raises(ScenarioError) as error:
        make({"workers": 1, "compute": {"kind": "recorded", "file": "bad.csv"}})
    (problem,) = error.value.problems
    assert "bad.csv" in problem
    for word in words[:1] if words[0] == "cannot be read" else words:
        assert word in problem


def test_a_missing_file_a_folder_without_events_a_missing_worker(make, tmp_path):
    with pytest.raises(ScenarioError, match=r"nowhere\.csv: there is no such file"):
        make({"compute": {"kind": "recorded", "file": "nowhere.csv"}})
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScenarioError, match="holds no finished run with events"):
        make({"compute": {"kind": "recorded", "file": "empty"}})
    asyncsim.simulate(make(), tmp_path / "first")
    with pytest.raises(UserError, match=r"no rows of kind `compute` for worker 5; there are rows for 0, 1, 2, 3, 4$"):
        asyncsim.plan(make({"workers": 6, "compute": {"kind": "recorded", "file": "first"}}))


def test_nan_in_parquet_is_named_by_row(make, tmp_path):
    pd.DataFrame({"worker": [0, 0], "seconds": [1.0, np.nan]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(ScenarioError, match=r"t\.parquet, row 2, column 'seconds': nan is not a duration"):
        make({"compute": {"kind": "recorded", "file": "t.parquet"}})
