"""Every method under every kind of trouble: the run ends, the laws hold, the plan is the run's timeline."""

from __future__ import annotations

import numpy as np
import pytest
from laws import check_all

import asyncsim
from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.policies import SGD
from asyncsim.registries import methods

WORKERS = 5
CHAIN = [{"kind": "drop_stale", "bound": 6}, {"kind": "clip", "max_norm": 1}, {"kind": "accumulate", "count": 2}]
SETTINGS = {
    "custom": {"policy": CHAIN},
    "k_sync": {"k": 3}, "backup_workers": {"backups": 2}, "rennala": {"batch": 2}, "softsync": {"n": 2}, "ssp": {"bound": 1},
    "ringmaster": {"threshold": 3, "stops": True}, "fedbuff": {"buffer": 3, "local_steps": 2}, "local_sgd": {"local_steps": 2},
    "fedasync": {"local_steps": 1}, "dana": {"compensate": 0.5}, "gpipe": {"micro_batches": 1}, "adl": {"accumulate": 2},
    "fadas": {"buffer": 3, "local_steps": 2}, "delayed_nesterov": {"local_steps": 2}, "momentum_look_ahead": {"local_steps": 2},
    "heloco": {"local_steps": 2}, "diloco": {"local_steps": 2},
    "momentum_approximation": {"local_steps": 2, "buffer": 3, "clip": 1.0, "noise": 0.1},
    "abs": {"k": 2, "weight": 0, "local_steps": 2}, "adasync": {"k": 2, "weight": 0},
    "dssp": {"least": 0, "most": 3}, "mindflayer": {"trials": 2, "limit": "900ms", "share": 0.5},
    "laga": {"accumulate": 2}, "pipesgd": {"warmup": 3}, "co2": {"local_steps": 2},
    "overlap_local_sgd": {"local_steps": 2},
    "eager_diloco": {"local_steps": 2}, "co_running": {"local_steps": 2, "slot": "300ms", "demand": "3s"},
    "fluid": {"local_steps": 1, "stragglers": 2}, "weight_update_magnitudes": {"local_steps": 1, "shares": {1: 0.5, 3: 0.75}},
    "mspipe": {"sample": "300ms", "memory": {"kind": "exponential", "mean": "500ms"}, "write": "1s"},
    "async_local_sgd": {"local_steps": 2, "least_steps": 1}, "streaming_diloco": {"local_steps": 2},
    "halos": {"local_steps": 2, "every": 3, "links": ["1s", "2s"]},
}  # fmt: skip
STANDING_STILL = ("basis_rotation",)
"""Methods whose step is Adam's, which is 0 where the square of a gradient is infinite."""
METHODS = [{"kind": kind, **SETTINGS.get(kind, {})} for kind, _ in methods]
NUMBERED = ("decoupled_data_parallel", "pipedream_2bw", "ad_psgd", "sgp", "sparta")
"""Their groups go through numbered batches together, or hold the parameters, so nobody can join in the middle: refused."""
METHODS += [{"kind": "k_sync", "k": 3, "cancel": False}, {"kind": "gap_aware", "per": "layer"}]
METHODS += [{"kind": "ad_psgd", "form": "adapt_then_combine"}, {"kind": "sgp", "lag": 2}, {"kind": "sgp", "peers": 2}]
METHODS += [{"kind": "abs", "weight": 0.1, "local_steps": 2}, {"kind": "adasync", "weight": 0.1, "staleness_aware": True}]
METHODS += [{"kind": "fedbuff", "buffer": 3, "local_steps": 2, "concurrency": 2}]
METHODS += [{"kind": "ad_psgd", "program": {"kind": "replica", "overlap": True}}]

GAMMA = {"kind": "gamma_heterogeneous", "mean": 1.0}
CRASHES = {"faults": {"up": {"kind": "exponential", "mean": 4}, "down": {"kind": "exponential", "mean": 2}}}
ONE_STOP = [{"at": "3s", "workers": [1], "stop": True}]
STOPS = [{"at": at, "workers": [worker], "stop": True} for at, worker in ((0, 4), (2.5, 0), (2.5, 2), (6, 1))]
SLOW = [{"at": "2s", "workers": [0, 3], "slowdown": 5, "duration": "4s"}, {"at": 0, "workers": [2], "slowdown": 0.3}]
TWO_STATE = {"kind": "two_state", "base": GAMMA, "factor": 6, "normal": {"kind": "exponential", "mean": 3}, "slow": "2s"}
NETWORK = {
    "server": {"service": {"kind": "gamma", "mean": 0.15, "cv": 0.5}}, "downlink": "50ms",
    "uplink": {"latency": {"kind": "exponential", "mean": 0.1}, "bandwidth": "1kB/s"},
}  # fmt: skip
CONTENTION = {
    "uplink": {"latency": {"kind": "exponential", "mean": 0.1}, "bandwidth": "3kB/s"}, "server": {"service": "20ms"},
    "network": {"kind": "rack", "racks": [2, 3], "uplink": "2kB/s", "hop": "20ms", "ingress": "3kB/s", "egress": "3kB/s",
                "hosts": 2, "duplicate": 0.2, "loss": {"probability": 0.1, "timeout": "300ms", "packet": 8}},
}  # fmt: skip
SPOT = {
    "faults": {"up": {"kind": "exponential", "mean": 8}, "down": {"kind": "exponential", "mean": 1}, "warning": "700ms"},
    "zones": {"zones": 2, "gap": {"kind": "exponential", "mean": 9}, "down": "1s", "spread": "1s", "warning": "300ms"},
    "maintenance": [{"every": "11s", "duration": "1s", "workers": [0, 3], "warning": "2s"}],
}  # fmt: skip
ELASTIC = [
    {"at": "3s", "workers": [3, 4], "join": True}, {"at": "5s", "workers": [0, 3], "leave": True},
    {"at": "9s", "workers": [0, 3], "join": True}, {"at": "6s", "workers": [1, 2], "down": "2s"},
    {"at": "14s", "workers": [1], "leave": True},
]  # fmt: skip
SERVER = {
    **CRASHES, "server": {"service": {"kind": "gamma", "mean": 0.15, "cv": 0.5}, "checkpoint": "6s",
                          "faults": {"up": {"kind": "exponential", "mean": 15}, "down": {"kind": "exponential", "mean": 2}}},
}  # fmt: skip
TROUBLES = {
    "server": SERVER,
    "contention": CONTENTION, "spot": SPOT, "load": {"load": {"period": "7s", "depth": 0.8}},
    "cloud": {**CONTENTION, **SPOT, "events": ELASTIC, "load": {"period": "7s", "factors": [1, 3, 2]}},
    "none": {}, "crashes": CRASHES, "stop": {"events": ONE_STOP}, "stops": {"events": STOPS}, "slow": {"events": SLOW},
    "two_state": {"compute": TWO_STATE}, "network": NETWORK,
    "all": {"compute": TWO_STATE, **CRASHES, **NETWORK, "events": SLOW + STOPS},
}  # fmt: skip
TIED = {"all, tied": {"compute": "1s", "faults": {"up": "4s", "down": "1s"}, "events": STOPS + SLOW, "server": {"service": "1s"}}}
TIED["elastic"] = {"compute": "1s", "events": ELASTIC}


def needs(method: dict) -> Need:
    return methods.parse(method).bundle(WORKERS, SGD(), 1).needs


def layered(method: dict) -> dict:
    """A task whose model has a layer to make smaller, where the method does that, with messages as small as those of the others.
    """
    task = {"kind": "digits", "batch": 1, "model": {"kind": "mlp", "hidden": [4]}}
    return {"task": task, "message": 8} if Need.SUB_MODELS in needs(method) else {}


def holds(method: dict) -> bool:
    """Are the parameters at the workers, in stages or by an exchange?"""
    return bool(needs(method) & (Need.PASSES | Need.OWN_PARAMETERS))


def planned(scenario, run) -> asyncsim.Result:
    """The plan, with the timeline of the run; or the run again, where numbers decide what happens in time."""
    if scenario.bundle().decided_by_values:
        with pytest.raises(UserError, match="cannot be planned"):
            asyncsim.plan(scenario)
        again = asyncsim.simulate(scenario)
    else:
        again = asyncsim.plan(scenario)
    assert again.fingerprints["timeline"] == run.fingerprints["timeline"]
    return again


def name(method: dict) -> str:
    told = ("cancel", "per", "form", "lag", "peers", "program", "weight", "concurrency")
    return "-".join([method["kind"], *(key for key in told if key in method)])


@pytest.mark.parametrize("trouble", [*TROUBLES, *TIED])
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_the_run_ends_and_the_laws_hold(make, method, trouble):
    """40 updates, whatever happens, in finite virtual time; the same timeline with and without gradients; no more gradients than
    are used (an engine may leave the last, unfilled buffer alone)."""
    settings = {"method": method, "updates": 40, "cluster": {"compute": GAMMA} | (TROUBLES | TIED)[trouble], **layered(method)}
    if method["kind"] in NUMBERED and ELASTIC[0] in settings["cluster"].get("events", []):
        with pytest.raises(UserError, match="nobody joins"):
            make(WORKERS, **settings)
        settings["cluster"] |= {"events": [event for event in settings["cluster"]["events"] if "down" in event]}
    if trouble == "server" and holds(method):
        with pytest.raises(UserError, match="hold the parameters themselves"):
            make(WORKERS, **settings)
        settings["cluster"] |= {"server": {}}
    others = ("network", "server", "all_reduce")
    if Need.HIERARCHY in needs(method) and any(each in settings["cluster"] for each in others):
        with pytest.raises(UserError, match="`links` between them"):
            make(WORKERS, **settings)
        settings["cluster"] = {name: value for name, value in settings["cluster"].items() if name not in others}
    if Need.PEERS in needs(method) and "service" in settings["cluster"].get("server", {}):
        with pytest.raises(UserError, match="there is no server whose service could take time"):
            make(WORKERS, **settings)
        settings["cluster"] |= {"server": {}}
    scenario = make(WORKERS, **settings)
    run = asyncsim.simulate(scenario)
    check_all(run)
    assert run.summary["updates"] == planned(scenario, run).summary["updates"] == 40
    assert run.summary["status"] == "finished"
    assert np.isfinite(run.parameters).all()
    assert run.summary["time"] < 10_000
    used = (run.updates["outcome"] != "dropped").sum()
    if method["kind"] in ("sapipe", "eager_diloco"):  # workers look at what they launch, also where it is lost on the way
        used = (run.events["complete"] & (run.events["kind"] == "compute")).sum()
    assert run.summary["gradients_computed"] <= used


@pytest.mark.parametrize("method", [each for each in METHODS if each["kind"] not in STANDING_STILL], ids=name)
def test_divergence_is_a_result(make, method):
    """A learning rate of 1e30: the first or second update is not finite any more, in whatever way the method scales gradients. No
    error, nothing more is computed, the timeline is the plan's, and metrics are NaN from there on."""
    local = {"local_lr": 1e30} if "local_lr" in methods[method["kind"]].model_fields else {}
    task = {"task": {"kind": "quadratic", "dim": 2, "curvature": 1e30}} | layered(method)
    scenario = make(WORKERS, GAMMA, {**method, **local}, updates=30, optimizer={"kind": "sgd", "lr": 1e30},
                    evaluate={"updates": 1}, **task)  # fmt: skip
    result = asyncsim.simulate(scenario)
    summary = result.summary
    assert summary["status"] == "diverged"
    assert summary["updates"] == 30
    planned(scenario, result)
    after = result.metrics[result.metrics["version"] >= summary["diverged_at_update"]]
    assert after.filter(like="test_").isna().all(axis=None)
    assert len(after) > 20
    late = result.updates[result.updates["time"] > summary["diverged_at_time"]]
    assert late["loss"].isna().all()
    assert late["gap"].isna().all()
    check_all(result)
