"""The timeline is a function of the scenario's timing alone: not of numbers, of the method's treatment, or of other workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import asyncsim
from asyncsim.registries import methods

EVENTFUL = {
    "uplink": {"latency": {"kind": "gamma", "mean": "20ms", "cv": 0.5}, "bandwidth": "1Gbit/s"},
    "downlink": {"latency": "5ms"},
    "server": {"service": {"kind": "exponential", "mean": "30ms"}},
    "faults": {"up": {"kind": "exponential", "mean": "30s"}, "down": "2s"},
    "events": [{"at": "5s", "workers": [1], "slowdown": 4, "duration": "10s"}, {"at": "15s", "workers": [2], "stop": True}],
}
"""Links, a busy server, crashes, a slow spell, a worker that leaves."""

STEADY = {
    "asgd": {}, "custom": {"policy": [{"kind": "clip", "max_norm": 1.0}]}, "staleness_aware": {}, "gap_aware": {}, "dana": {},
    "dana_gap_aware": {}, "dc_asgd": {}, "iter_fisher": {}, "ssp": {"bound": None}, "ringmaster": {"threshold": 100_000},
    "delay_adaptive": {}, "adadelay": {}, "dana_slim": {}, "dana_dc": {}, "smega2": {}, "ormo": {},
    "ferret": {},
    **{kind: {"sharing": "asynchronous"} for kind in
       ("fdg", "ddg", "features_replay", "pipedream", "pipemare", "spectrain", "ftpipe", "bp", "nesterov_pipeline", "pipeoptim",
        "pipelined_backprop", "basis_rotation")},
}  # fmt: skip
"""Methods where nobody waits, every push is an update, and a round is one batch."""

OTHERS = {
    "ssp": {"bound": 1}, "bsp": {}, "k_sync": {"k": 4}, "backup_workers": {"backups": 2, "cancel": False},
    "rennala": {"batch": 4}, "ringmaster": {"threshold": 4, "stops": True}, "softsync": {"n": 2}, "local_sgd": {"local_steps": 2},
    "fedbuff": {"local_steps": 2, "buffer": 3}, "fedasync": {"local_steps": 2}, "adl": {"accumulate": 2},
    "decoupled_data_parallel": {}, "gpipe": {"micro_batches": 2, "interleaved": True}, "pipedream_2bw": {"micro_batches": 4},
    "ad_psgd": {}, "sgp": {"lag": 1}, "delay_adaptive": {"rule": "koloskova", "after": 3, "drop": True},
    "delayed_nesterov": {"local_steps": 2}, "momentum_look_ahead": {"local_steps": 2}, "heloco": {"local_steps": 2},
    "fadas": {"local_steps": 2, "buffer": 3}, "gradient_dropping": {}, "dgc": {}, "dgs": {}, "qsgd": {}, "powersgd": {},
    "easgd": {"local_steps": 2}, "eamsgd": {"local_steps": 2}, "momentum_approximation": {"local_steps": 2, "buffer": 3},
    "diloco": {"local_steps": 2},
    "abs": {"local_steps": 2, "weight": 0, "k": 2}, "adasync": {"k": 3, "weight": 0}, "gba": {"buffer": 3, "threshold": 1},
    "ringleader": {}, "dssp": {"least": 0, "most": 3}, "mindflayer": {"limit": "500ms", "share": 0.5},
    "laga": {"accumulate": 2}, "pipesgd": {"warmup": 3},
    "co2": {"local_steps": 2}, "sapipe": {}, "overlap_local_sgd": {"local_steps": 2},
    "eager_diloco": {"local_steps": 2}, "co_running": {"local_steps": 2, "slot": "300ms", "demand": "4s"},
    "fluid": {"local_steps": 2, "stragglers": 2}, "weight_update_magnitudes": {"local_steps": 2, "shares": {1: 0.5, 3: 0.75}},
    "mspipe": {"k": 1, "sample": "300ms", "features": "100ms", "memory": {"kind": "exponential", "mean": "200ms"}, "write": "1s"},
    "async_local_sgd": {"local_steps": 2}, "sparta": {},
    "halos": {"local_steps": 2, "every": 3}, "streaming_diloco": {"local_steps": 2},
}  # fmt: skip


def test_every_method_is_in_a_list():
    assert set(STEADY) | set(OTHERS) == {name for name, cls in methods if cls.__module__.startswith("asyncsim.")}


@pytest.mark.parametrize("cluster", [{}, EVENTFUL], ids=["bare", "eventful"])
def test_methods_that_differ_in_numbers_only_have_one_timeline(make, cluster):
    """Common random numbers: methods on the same stragglers, links and crashes, with different optimisers even, give the same
    events to the nanosecond, and the plan, which computes nothing, gives them too."""
    runs = [make(cluster=cluster, method={"kind": kind, **fields}) for kind, fields in STEADY.items()]
    runs.append(make(cluster=cluster, method="gap_aware", optimizer={"kind": "adam"}))
    prints = {asyncsim.simulate(run).fingerprints["timeline"] for run in runs}
    prints |= {asyncsim.plan(run).fingerprints["timeline"] for run in runs}
    assert len(prints) == 1


@pytest.mark.parametrize("cluster", [{}, EVENTFUL], ids=["bare", "eventful"])
@pytest.mark.parametrize("kind", OTHERS)
def test_a_plan_is_the_run_without_numbers(make, kind, cluster):
    """Methods that wait, buffer, drop or recall: the plan's events, and of every push its time, staleness and fate, are the
    run's."""
    if kind in ("ad_psgd", "sgp", "halos"):  # no server is busy there
        cluster = {key: value for key, value in cluster.items() if key != "server"}
    scenario = make(cluster=cluster, method={"kind": kind, **OTHERS[kind]}, run={"updates": 40})
    run, plan = asyncsim.simulate(scenario), asyncsim.plan(scenario)
    assert run.fingerprints["timeline"] == plan.fingerprints["timeline"]
    for column in ("time_ns", "worker", "step", "read_version", "version", "staleness", "outcome", "lr"):
        assert (run.updates[column] == plan.updates[column]).all(), column
    assert len(run.updates) == len(plan.updates) > 0
    assert "trajectory" not in plan.fingerprints


def test_the_timeline_does_not_depend_on_the_task(make):
    """Another data set, model, precision or batch size leaves the events as they were (where no message has a size)."""
    prints = {
        asyncsim.simulate(make(**changes)).fingerprints["timeline"]
        for changes in ({}, {"task": {"kind": "quadratic", "noise": 1.0}}, {"dtype": "float64"}, {"threads": 2})
    }
    assert len(prints) == 1


def test_another_seed_is_another_timeline(make):
    """The seed reaches the delays: two seeds share no compute time."""
    times = [set(spans(asyncsim.plan(make(seed=seed)))[0].values()) for seed in (0, 1)]
    assert not times[0] & times[1]


def test_every_worker_has_draws_of_its_own(make):
    """Equal machines (gamma times, no factor of the machine): no two workers take the same time for the same step."""
    seen = spans(asyncsim.plan(make(cluster={"compute": {"kind": "gamma", "mean": "1s", "cv": 0.1}})))
    for step in range(5):
        assert len({steps[step] for steps in seen}) == 6


def spans(result: Any) -> list[dict[int, int]]:
    """Of each worker, step -> nanoseconds of completed computing."""
    events = result.events
    events = events[(events["kind"] == "compute") & events["complete"]]
    workers: list[dict[int, int]] = [{} for _ in range(result.summary["workers"])]
    for row in events.itertuples():
        workers[row.worker][row.step] = row.end_ns - row.start_ns
    return workers


def test_one_more_worker_changes_nobody_elses_draws(make):
    """Streams are named by worker and step (design, section 7): with a seventh worker the first six take the same times for the
    same steps, and see the same batches. (The run is limited by time, so all get equally far.)"""
    scenarios = [make(workers, run={"time": "30s"}) for workers in (6, 7)]
    six, seven = (spans(asyncsim.plan(scenario)) for scenario in scenarios)
    assert six == seven[:6]
    assert all(len(steps) > 5 for steps in six)
    tasks = [scenario.task.build(scenario.seed, "cpu", "float32", n) for scenario, n in zip(scenarios, (6, 7), strict=True)]
    for worker in range(6):
        for step in (0, 1, 50):
            for one, other in zip(tasks[0].batch(worker, step), tasks[1].batch(worker, step), strict=True):
                assert one.equal(other)
    assert not tasks[1].batch(6, 0)[0].equal(tasks[1].batch(5, 0)[0])


@pytest.mark.parametrize("kind", OTHERS)
def test_all_methods_meet_the_same_stragglers(make, kind):
    """A worker's time for its step k is the same under every method, whatever it waits for or drops; a round of two batches
    takes the times of two, a micro-batch its part of one, and a sub-model its share. Methods end at different steps: those that
    both reach are compared."""
    reference = spans(asyncsim.plan(make(run={"time": "80s"})))
    scenario = make(method={"kind": kind, **OTHERS[kind]}, run={"time": "30s"})
    plan = asyncsim.plan(scenario)
    seen = spans(plan)
    shares = {(row.worker, row.step): getattr(row, "share", 1) for row in plan.updates.itertuples()}
    batches, parts = scenario.bundle().program.batches, OTHERS[kind].get("micro_batches", 1)
    compared = 0
    for worker, steps in enumerate(seen):
        for step, duration in steps.items():
            wanted = [reference[worker].get(index) for index in range(step * batches, (step + 1) * batches)]
            if None not in wanted:  # seconds are summed or divided first, and rounded once, to nanoseconds
                part = shares.get((worker, step), 1) / parts
                assert abs(duration - sum(wanted) * part) <= batches - 1 + (part != 1)
                compared += 1
    assert compared > 20


def test_virtual_time_is_whole_nanoseconds_in_order(make):
    """Times are integers, arrivals do not go back, and a span does not end before it begins."""
    result = asyncsim.plan(make(cluster=EVENTFUL))
    assert result.updates["time_ns"].dtype == np.int64
    assert (np.diff(result.updates["time_ns"]) >= 0).all()
    assert (result.events["end_ns"] >= result.events["start_ns"]).all()
