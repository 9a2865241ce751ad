"""From a file to a snippet: it validates, and has the trace's mean and spread; workers that differ; availability; formats."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

import asyncsim
from asyncsim.cluster import Cluster
from asyncsim.scenario import Scenario
from asyncsim.streams import Streams


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def gammas(means: list[float], rows: int, cv: float = 0.1, seed: int = 3) -> pd.DataFrame:
    """A trace of workers with these means, their rows mixed."""
    rng = np.random.default_rng(seed)
    worker = rng.permutation(np.repeat(np.arange(len(means)), rows))
    return pd.DataFrame({"worker": worker, "seconds": rng.gamma(cv**-2, cv**2, len(worker)) * np.array(means)[worker]})


def cluster_of(made) -> Cluster:
    """The pasted snippet, as a scenario reads it."""
    document = {"task": "digits", "run": {"updates": 5}, **YAML(typ="safe", pure=True).load(made.yaml)}
    return Scenario.model_validate(document).cluster


def sample(cluster: Cluster, worker: int, n: int = 50_000) -> np.ndarray:
    streams = Streams(1)
    return cluster.profile(worker).compute.for_worker(streams, worker).sample(streams("test", worker), n)


def test_equal_workers(here):
    trace = gammas([0.4] * 4, 2000, cv=0.4)
    trace.to_csv("t.csv", index=False)
    made = asyncsim.calibrate("t.csv")
    assert not made.differences.heterogeneous
    cluster = cluster_of(made)
    assert (cluster.num_workers, cluster.compute.kind) == (4, "gamma")
    values = sample(cluster, 2)
    assert values.mean() == pytest.approx(trace.seconds.mean(), rel=0.005)
    assert values.std() / values.mean() == pytest.approx(trace.seconds.std() / trace.seconds.mean(), rel=0.02)


def test_workers_that_differ_get_a_factor_each(here):
    trace = gammas([0.3, 0.5, 0.4, 0.9], 2000)
    trace.to_csv("t.csv", index=False)
    made = asyncsim.calibrate("t.csv")
    assert made.differences.heterogeneous
    assert made.differences.cv_machine == pytest.approx(np.std([0.3, 0.5, 0.4, 0.9], ddof=1) / 0.525, rel=0.02)
    cluster = cluster_of(made)
    assert cluster.compute.kind == "tiers"
    for worker, mean in trace.groupby("worker").seconds.mean().items():
        values = sample(cluster, worker)
        assert values.mean() == pytest.approx(mean, rel=0.005)
        assert values.std() / values.mean() == pytest.approx(0.1, rel=0.03)


def test_many_workers_that_differ_are_drawn_anew(here):
    """The parameters of a `cvb` fleet are found from its own draws: 400 machines tell the cv between them to about 4 %."""
    fleet = Cluster.model_validate({"workers": 400, "compute": {"kind": "cvb", "mean": 2, "cv_machine": 0.6, "cv_task": 0.1}})
    rows = [(worker, value) for worker in range(400) for value in sample(fleet, worker, 20)]
    pd.DataFrame(rows, columns=["worker", "seconds"]).to_csv("t.csv", index=False)
    made = asyncsim.calibrate("t.csv")
    found = made.snippet["cluster"]["compute"]
    assert found["kind"] == "cvb"
    assert found["mean"] == pytest.approx(2, rel=0.1)
    assert found["cv_machine"] == pytest.approx(0.6, rel=0.12)
    assert found["cv_task"] == pytest.approx(0.1, rel=0.03)
    assert "draws machines anew" in " ".join(made.notes)


def test_a_difference_must_be_proved_and_matter(here):
    """1 % between workers is beyond doubt with 200,000 rows, and still no reason for a fleet of unequal workers."""
    gammas([1.0, 1.01], 100_000).to_csv("small.csv", index=False)
    small = asyncsim.calibrate("small.csv").differences
    assert small.p < 1e-9
    assert not small.heterogeneous
    gammas([1.0, 1.4], 2, cv=0.5).to_csv("few.csv", index=False)
    assert not asyncsim.calibrate("few.csv").differences.heterogeneous


@pytest.mark.parametrize("means", [[0.4, 0.4], [0.3, 0.9]])
def test_drawing_from_the_trace(here, means):
    """The durations are written, over their workers' factors, and the snippet draws from them: the mean is the trace's."""
    trace = gammas(means, 500)
    trace.to_parquet("t.parquet")
    made = asyncsim.calibrate("t.parquet", empirical="kept.csv")
    assert len(pd.read_csv("kept.csv")) == 1000
    cluster = cluster_of(made)
    for worker, mean in trace.groupby("worker").seconds.mean().items():
        assert sample(cluster, worker).mean() == pytest.approx(mean if means[0] != means[1] else trace.seconds.mean(), rel=0.005)


def test_the_same_trace_in_every_format(here):
    trace = gammas([0.3, 0.6], 300)
    trace.to_csv("t.csv", index=False)
    trace.to_parquet("t.parquet")
    trace.to_json("t.jsonl", orient="records", lines=True, double_precision=15)
    ours = [asyncsim.calibrate(f"t.{form}") for form in ("csv", "parquet", "jsonl")]
    assert ours[0].snippet == ours[1].snippet == ours[2].snippet
    assert ours[0].fits["compute"].chosen == ours[1].fits["compute"].chosen
    asyncsim.calibrate("t.jsonl", empirical="again.csv")
    recorded = {"compute": {"kind": "recorded", "file": "t.jsonl"}, "workers": 2}
    assert Cluster.model_validate(recorded).compute.expected == pytest.approx(trace.seconds.mean(), rel=1e-8)


def test_workers_may_have_names(here):
    trace = gammas([0.3, 0.6], 300)
    trace["host"] = trace.worker.map({0: "b, left", 1: "a"})
    trace[["host", "seconds"]].to_csv("t.csv", index=False)
    made = asyncsim.calibrate("t.csv", worker="host", empirical="kept.csv")
    assert made.differences.workers == ("a", "b, left")
    assert set(pd.read_csv("kept.csv").worker) == {"a", "b, left"}
    assert asyncsim.calibrate("t.csv").differences.workers == (None,)


def test_a_run_is_a_trace(here):
    """Compute times of a run with crashes and links: what was cut short is left out and counted."""
    scenario = Scenario.model_validate({
        "task": {"kind": "quadratic"}, "run": {"updates": 3000}, "seed": 2,
        "cluster": {
            "workers": 4, "compute": {"kind": "weibull", "scale": 1, "shape": 3},
            "uplink": {"latency": {"kind": "exponential", "mean": 0.1}},
            "faults": {"up": {"kind": "exponential", "mean": 100}, "down": 5},
        },
    })  # fmt: skip
    result = asyncsim.simulate(scenario, here / "run")
    made = asyncsim.calibrate("run")
    assert made.snippet["cluster"]["workers"] == 4
    compute = made.snippet["cluster"]["compute"]
    assert compute["kind"] == "weibull"
    assert compute["shape"] == pytest.approx(3, rel=0.05)
    computing = result.events[result.events.kind == "compute"]
    assert made.trace.left_out == (~computing.complete).sum() > 0
    assert len(made.fits["compute"].values) == computing.complete.sum()
    uplink = asyncsim.calibrate("run", span="upload").snippet["cluster"]["uplink"]["latency"]
    assert uplink == {"kind": "exponential", "mean": pytest.approx(0.1, rel=0.06)}


def availability(n: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.lognormal(np.log(2844), 1.46, n), rng.exponential(600, n)


@pytest.mark.parametrize("form", ["intervals", "changes"])
def test_availability_becomes_faults(here, form):
    """Two workers, up and down in turn: as intervals or as changes, the same times and the same faults."""
    up, down = availability()
    rows = []
    for worker in (0, 1):
        mine = np.stack([up[worker::2], down[worker::2]], 1)
        ends = np.cumsum(mine.ravel()).reshape(-1, 2)
        for start, end in zip(np.r_[0, ends[:-1, 1]], ends[:, 0], strict=True):
            rows += [(worker, start, end)] if form == "intervals" else [(worker, start, "up"), (worker, end, "down")]
        last = ends[-1, 1]
        rows += [(worker, last, last + 1)] if form == "intervals" else [(worker, last, "up")]
    columns = ["worker", "start", "end"] if form == "intervals" else ["worker", "time", "event"]
    pd.DataFrame(rows, columns=columns).to_csv("t.csv", index=False)
    made = asyncsim.calibrate("t.csv")
    faults = cluster_of(made).faults
    assert (faults.up.kind, faults.down.kind) == ("lognormal", "exponential")
    assert faults.up.sigma == pytest.approx(1.46, rel=0.03)
    assert faults.down.mean == pytest.approx(600, rel=0.04)
    assert made.trace.left_out == (2 if form == "changes" else 0)
    assert len(made.fits["down"].values) == len(down)
    json.dumps(made.document(), allow_nan=False)


def test_persistent_slowness_is_told(here):
    rng = np.random.default_rng(0)
    slow = np.repeat(rng.random(50) < 0.3, 40)
    pd.DataFrame({"seconds": rng.gamma(100, 0.01, 2000) * np.where(slow, 4, 1)}).to_csv("t.csv", index=False)
    made = asyncsim.calibrate("t.csv")
    assert any("two_state" in note for note in made.notes)


def test_a_long_trace_takes_seconds(here):
    rng = np.random.default_rng(0)
    values = rng.gamma(4, 0.1, 1_000_000)
    rows = "".join(f"{i % 16},{value!r}\n" for i, value in enumerate(values.tolist()))
    (here / "t.csv").write_text("worker,seconds\n" + rows)
    made = asyncsim.calibrate("t.csv")
    assert made.snippet["cluster"]["compute"] == {
        "kind": "gamma", "mean": pytest.approx(0.4, rel=2e-3), "cv": pytest.approx(0.5, rel=3e-3)
    }  # fmt: skip
    assert len(made.fits["compute"].values) == 1_000_000
