"""Crashes, slow episodes, departures, links and service in the grid of groups and stages: nothing is lost, nothing done twice."""

from __future__ import annotations

import random

import pytest

import asyncsim
from asyncsim.errors import Deadlock
from asyncsim.scenario import Scenario

METHODS = {
    "fdg": {}, "adl": {"accumulate": 3}, "ddg": {}, "features_replay": {}, "pipedream": {}, "pipedream_2bw": {}, "gpipe": {},
    "bp": {}, "nesterov_pipeline": {}, "decoupled_data_parallel": {},
    "free running": {"kind": "fdg", "clocked": False}, "vertical sync": {"kind": "pipedream", "vertical_sync": True},
    "interleaved": {"kind": "gpipe", "interleaved": True}, "gossip": {"kind": "pipedream", "gossip": "ring"},
    "asynchronous": {"kind": "fdg", "sharing": "asynchronous"}, "pipemare": {}, "spectrain": {}, "ftpipe": {},
    "pipeoptim": {}, "pipelined_backprop": {},
    "gap-aware shards": {"kind": "gap_aware", "program": {"kind": "stage", "order": "1f1b"}},
    "dropped": {"kind": "fdg", "sharing": "asynchronous", "before": [{"kind": "drop_stale", "bound": 9}]},
}  # fmt: skip
CRASHES = {"faults": {"up": {"kind": "exponential", "mean": "5s"}, "down": {"kind": "exponential", "mean": "1s"}}}
LINKS = {"uplink": {"latency": {"kind": "exponential", "mean": "300ms"}}, "downlink": {"latency": "200ms"},
         "server": {"service": {"kind": "exponential", "mean": "100ms"}}}  # fmt: skip
SLOW = {"events": [{"at": "3s", "workers": [1], "slowdown": 8, "duration": "6s"}]}


def scenario(name, stages, groups, cluster, seed=0, updates=24):
    return Scenario.model_validate({
        "task": {"kind": "digits", "batch": 60, "model": {"kind": "mlp", "hidden": [6] * 5}}, "seed": seed,
        "cluster": {"workers": stages * groups, "compute": {"kind": "exponential", "mean": "1s"}, **cluster},
        "stages": {"count": stages, "split": "layers"}, "method": {"kind": name, **METHODS[name]},
        "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.5}, "run": {"updates": updates}, "evaluate": {"updates": updates},
    })  # fmt: skip


def accounted(result):
    """Every stage's batches arrive once, in order, and each pass of them was completed once."""
    updates, events = result.updates, result.events
    for worker, rows in updates.groupby("worker"):
        steps = rows["step"].to_list()
        assert steps == list(range(len(steps)))
        done = events[(events["worker"] == worker) & events["complete"]]
        for kinds in (("forward", "compute"), ("backward", "compute")):
            passes = done[done["kind"].isin(kinds)]["step"].to_list()
            assert passes == list(range(len(passes)))
            assert len(passes) >= len(steps)


@pytest.mark.parametrize("name", METHODS)
def test_plan_and_run_tell_the_same_story(name):
    case = scenario(name, 3, 2, CRASHES | LINKS | SLOW)
    plan, run = asyncsim.plan(case), asyncsim.simulate(case)
    assert plan.fingerprints["timeline"] == run.fingerprints["timeline"]
    assert asyncsim.simulate(case).fingerprints == run.fingerprints
    assert (plan.events["complete"] == 0).any()
    accounted(plan)


@pytest.mark.parametrize("name", METHODS)
def test_no_deadlock(name):
    rng = random.Random(name)
    for stages in range(2, 7):
        groups = rng.randint(1, 3)
        cluster = (CRASHES, LINKS, SLOW, CRASHES | LINKS, {})[rng.randrange(5)]
        result = asyncsim.plan(scenario(name, stages, groups, cluster, rng.randrange(1000)))
        assert result.summary["updates"] >= 24
        accounted(result)


@pytest.mark.parametrize("name", METHODS)
def test_a_group_leaves(name):
    case = scenario(name, 3, 3, {**LINKS, "events": [{"at": "8s", "workers": [4], "stop": True}]})
    plan, run = asyncsim.plan(case), asyncsim.simulate(case)
    assert plan.fingerprints["timeline"] == run.fingerprints["timeline"]
    accounted(plan)
    assert set(plan.events[plan.events["kind"] == "stop"]["worker"]) == {3, 4, 5}
    last = plan.updates["time_ns"].max()
    assert plan.updates[plan.updates["worker"].isin([3, 4, 5])]["time_ns"].max() < last


@pytest.mark.parametrize("name", METHODS)
def test_the_only_group_leaves(name):
    with pytest.raises(Deadlock, match="the last group has lost its stage 2"):
        asyncsim.plan(scenario(name, 3, 1, {"events": [{"at": "3s", "workers": [1], "stop": True}]}))


@pytest.mark.parametrize("name", ["free running", "pipedream", "vertical sync", "bp"])
def test_times_do_not_change_weights_of_one_group(name):
    seen = set()
    for cluster in ({}, CRASHES | LINKS, {"compute": "1s"}):
        seen.add(asyncsim.simulate(scenario(name, 3, 1, cluster, updates=60)).parameters.tobytes())
    assert len(seen) == 1
