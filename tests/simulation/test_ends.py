"""Each end of a run is exactly where it is defined, and so are evaluations; what divergence changes and what not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from laws import check_all

import asyncsim

EXPONENTIAL = {"kind": "exponential", "mean": 1.0}


@pytest.mark.parametrize("updates", [1, 2, 17])
@pytest.mark.parametrize("method", ["asgd", "bsp", {"kind": "softsync", "n": 2}, {"kind": "rennala", "batch": 3}])
def test_updates_end_the_run_at_that_count(make, method, updates):
    """Not one more: the run ends in the instant of the last one, and the final row of the metrics is there."""
    result = asyncsim.plan(make(4, EXPONENTIAL, method, updates=updates))
    assert result.summary["updates"] == result.metrics["version"].iloc[-1] == updates
    assert result.updates["outcome"].iloc[-1] == "applied"
    assert result.summary["time"] == result.updates["time"].iloc[-1] == result.metrics["time"].iloc[-1]


@pytest.mark.parametrize(("samples", "updates"), [(8, 2), (9, 3), (12, 3), (1, 1)])
def test_samples_end_the_run_with_the_update_that_reaches_them(make, samples, updates):
    """Batches of 4: the run needs ``ceil(samples / 4)`` updates; two pushes an update need half of that, rounded up."""
    length = {"run": {"samples": samples}, "task": {"kind": "quadratic", "batch": 4}}
    result = asyncsim.plan(make(3, EXPONENTIAL, **length))
    assert (result.summary["updates"], result.summary["samples"]) == (updates, 4 * updates)
    result = asyncsim.plan(make(2, EXPONENTIAL, "bsp", **length))
    assert result.summary["updates"] == math.ceil(updates / 2)
    assert result.summary["samples"] == 8 * math.ceil(updates / 2)


def test_time_ends_the_run_before_what_is_due_then(make):
    """Rounds of 1 s until 5 s: pushes at 1, 2, 3, 4. One nanosecond more lets those at 5 in."""
    result = asyncsim.plan(make(2, "1s", run={"time": "5s"}))
    assert result.updates["time"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert result.summary["time"] == 5
    check_all(result)
    result = asyncsim.plan(make(2, "1s", run={"time": 5.000000001}))
    assert result.summary["updates"] == 10
    assert result.metrics["time_ns"].iloc[-1] == 5_000_000_001


@pytest.mark.parametrize(("length", "end"), [
    ({"updates": 7, "samples": 100, "time": 100}, 7), ({"updates": 70, "samples": 5, "time": 100}, 5),
    ({"updates": 70, "samples": 100, "time": 2.5}, 2),
])  # fmt: skip
def test_the_nearest_limit_counts(make, length, end):
    """One worker, one sample and one second an update."""
    assert asyncsim.plan(make(1, "1s", run=length)).summary["updates"] == end


@pytest.mark.parametrize(("every", "end"), [(1, 5), (3, 6), (4, 8)])
def test_a_target_stops_at_the_first_evaluation_that_reaches_it(make, every, end):
    """lr 1/2 on ``x^2 / 2`` halves x: ``|x| = 2^-k`` after k updates, at most 2^-5 from k = 5 on."""
    task, optimizer = {"kind": "quadratic", "dim": 1}, {"kind": "sgd", "lr": 0.5}
    target = {"metric": "test_distance", "at_most": 2**-5}
    scenario = make(
        1, "1s", task=task, optimizer=optimizer, run={"updates": 50, "target": target}, evaluate={"updates": every}
    )  # fmt: skip
    result = asyncsim.simulate(scenario)
    assert result.summary["updates"] == result.summary["time_to_target"] == end
    assert result.metrics["test_distance"].tolist() == [2.0**-k for k in range(0, end + 1, every)]
    patient = scenario.evolve({"run.target": {**target, "stop": False}})
    result = asyncsim.simulate(patient)
    assert (result.summary["updates"], result.summary["time_to_target"]) == (50, end)
    assert asyncsim.plan(scenario).summary["updates"] == 50


def test_a_target_that_is_met_at_the_start(make):
    """Nothing happens at all."""
    target = {"metric": "test_distance", "at_most": 100.0}
    result = asyncsim.simulate(make(2, "1s", run={"updates": 50, "target": target}))
    assert (result.summary["updates"], result.summary["time"], result.summary["time_to_target"]) == (0, 0, 0)
    assert len(result.metrics) == 1


def test_a_target_between_two_updates_of_the_clock(make):
    """With evaluations by time the run ends at one of them: |x| is halved at 1, 2, ... s; at 2.5 k it is 2^-floor(2.5 k)."""
    target = {"metric": "test_distance", "at_most": 2**-4}
    result = asyncsim.simulate(make(1, "1s", task={"kind": "quadratic", "dim": 1}, optimizer={"kind": "sgd", "lr": 0.5},
                                    run={"updates": 50, "target": target}, evaluate={"time": "2.5s"}))  # fmt: skip
    assert result.metrics["time"].tolist() == [0, 2.5, 5]
    # the push at 5 s was scheduled at 4 s, after the evaluation (at 2.5 s), which therefore comes first
    assert result.metrics["test_distance"].tolist() == [1, 2**-2, 2**-4]
    assert result.summary["time_to_target"] == 5


# Evaluations.


@pytest.mark.parametrize(("cadence", "column", "expected"), [
    ({"updates": 3}, "version", [0, 3, 6, 9, 10]), ({"updates": 5}, "version", [0, 5, 10]), ({"updates": 99}, "version", [0, 10]),
    ({"samples": 8}, "samples", [0, 8, 16, 20]), ({"samples": 7}, "samples", [0, 8, 14, 20]),
    ({"samples": 1}, "version", [*range(11)]), ({}, "version", [*range(11)]),
    ({"time": 2}, "time", [0, 2, 4, 5]), ({"time": 2.5}, "version", [0, 4, 8, 10]), ({"time": 9}, "time", [0, 5]),
])  # fmt: skip
def test_rows_of_the_metrics(make, cadence, column, expected):
    """Two workers of 1 s, batches of 2, 10 updates in 5 s: a row at 0, at each multiple (for samples: at the first update that
    reaches it) and at the end, and no row twice. Without a cadence 40 in the run, or each update. The evaluation at 5 s,
    scheduled at 2.5 s, is before the two pushes at 5 s, and the final one after them."""
    result = asyncsim.plan(make(2, "1s", updates=10, task={"kind": "quadratic", "batch": 2}, evaluate=cadence))
    assert result.metrics[column].tolist() == expected
    assert not result.metrics.duplicated(["time_ns", "version"]).any()


def test_several_multiples_in_one_update_are_one_row(make):
    """BSP of 4 with batches of 3: 12 samples an update, evaluations every 5: at 12, 24, 36, once each."""
    result = asyncsim.plan(make(4, "1s", "bsp", updates=3, task={"kind": "quadratic", "batch": 3}, evaluate={"samples": 5}))
    assert result.metrics["samples"].tolist() == [0, 12, 24, 36]


# Divergence.


def test_divergence_is_noted_at_the_first_non_finite_update(make):
    """lr 3 on ``x^2 / 2``, x = 1: ``x(k) = (-2)^k``, exactly; float32 ends at 2^128, so update 128, at 128 s, is the first whose
    parameters are not finite. (Their sum over two dimensions is not finite one update earlier.) 128 gradients were computed."""
    scenario = make(
        1, "1s", updates=200, task={"kind": "quadratic", "dim": 2}, optimizer={"kind": "sgd", "lr": 3.0}, evaluate={"updates": 1}
    )  # fmt: skip
    result = asyncsim.simulate(scenario)
    summary, metrics = result.summary, result.metrics
    assert (summary["status"], summary["diverged_at_update"], summary["diverged_at_time"]) == ("diverged", 128, 128)
    assert summary["gradients_computed"] == 128
    assert summary["updates"] == 200
    assert result.fingerprints["timeline"] == asyncsim.plan(scenario).fingerprints["timeline"]
    finite = np.isfinite(metrics["test_distance"])
    assert (finite == (metrics["version"] < 128)).all()
    assert metrics["test_distance"][:64].to_numpy() == pytest.approx([math.sqrt(2) * 2.0**k for k in range(64)])
    assert metrics["test_distance"][128:].isna().all()
    assert result.updates["loss"][128:].isna().all()
    assert not np.isfinite(result.parameters).all()


def test_divergence_between_evaluations_is_noted_where_it_happened(make):
    """The same with no evaluation between the start and the end, and two workers: x(k+1) = x(k) - 3 x(k-1), x(0) = 1, x(1) = -2;
    update and time are those of the first value beyond float32's largest."""
    task, optimizer = {"kind": "quadratic", "dim": 1}, {"kind": "sgd", "lr": 3.0}
    scenario = make(2, "1s", updates=300, task=task, optimizer=optimizer, evaluate={"updates": 300})
    values = [1.0, 1.0 - 3.0]
    while abs(values[-1]) <= float(np.finfo(np.float32).max):
        values.append(values[-1] - 3.0 * values[-2])
    summary = asyncsim.simulate(scenario).summary
    assert summary["diverged_at_update"] == len(values) - 1
    assert summary["diverged_at_time"] == math.ceil((len(values) - 1) / 2)


def test_large_but_finite_is_not_diverged(make):
    """Squares of distances overflow float32 beyond 2^64, parameters not below 2^128: from 1e30 the run goes on as from 1."""
    task, optimizer = {"kind": "quadratic", "dim": 1, "start": 1e30}, {"kind": "sgd", "lr": 0.25}
    result = asyncsim.simulate(make(2, "1s", updates=60, task=task, optimizer=optimizer))
    assert result.summary["status"] == "finished"
    assert np.isfinite(result.metrics["test_distance"]).all()
