"""Every plugin can be resumed: a new method, optimizer, transform, program, consistency rule, exchange or engine is covered by
being registered (those with required settings need them in ``REQUIRED``)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from dying import made

import asyncsim
from asyncsim.methods.pipelines import PipelineMethod
from asyncsim.policies import Transform
from asyncsim.registries import consistencies, engines, exchanges, methods, optimizers, policies, programs

REQUIRED: dict[str, dict[str, Any]] = {
    "k_sync": {"k": 3}, "softsync": {"n": 2}, "drop_stale": {"bound": 3}, "clip": {"max_norm": 0.5}, "ssp": {"bound": 1},
    "accumulate": {"count": 3}, "rennala": {"batch": 3}, "adl": {"accumulate": 2}, "gpipe": {"micro_batches": 2},
    "halos": {"every": 3, "links": ["500ms"]}, "fragment_means": {"quorum": 3},
    "gaussian_noise": {"norm": 100.0, "multiplier": 0.001}, "accumulate_by_loss": {"count": 2}, "sampled": {"concurrency": 2},
    "accumulate_by_stage": {"counts": [2]},
    "trials": {"trials": 2, "limit": "1s"}, "mindflayer": {"trials": 2, "limit": "1s"},
    "weight_update_magnitudes": {"shares": {1: 0.5, 2: 0.75}, "local_steps": 1}, "fixed_shares": {"shares": {1: 0.5}},
    "mspipe": {"memory": "500ms", "write": "2s"},
}  # fmt: skip
LOCAL = ("abs", "local_sgd", "fedbuff", "fedasync", "easgd", "eamsgd", "diloco", "co2", "overlap_local_sgd",
         "eager_diloco", "fluid", "weight_update_magnitudes", "co_running", "async_local_sgd", "halos", "streaming_diloco")
KILLS = 30
OFTEN = {"updates": 2}
PLAIN = {"kind": "sgd", "lr": 1.0}
LATE = {"server": {"service": "100ms"}, "uplink": {"latency": "200ms"}, "downlink": {"latency": "300ms"}}


def names(registry: Any) -> list[str]:
    return [name for name, cls in registry if cls.__module__.startswith("asyncsim.")]


STAGED = {
    "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8, 6]}, "batch": 12},
    "stages": {"count": 3, "split": "layers"}, "workers": 6, "optimizer": {"kind": "sgd", "lr": 0.05, "momentum": 0.9},
}  # fmt: skip
TROUBLE = LATE | {
    "compute": {"kind": "exponential", "mean": "1s"}, "faults": {"up": {"kind": "exponential", "mean": "12s"}, "down": "2s"},
}  # fmt: skip


def spec(kind: str) -> dict[str, Any]:
    return {"kind": kind} | REQUIRED.get(kind, {})


def fitting(kind: str, cluster: dict[str, Any]) -> dict[str, Any]:
    """Where workers exchange with each other there is no server that could be busy."""
    return {key: value for key, value in cluster.items() if key != "server" or kind not in ("ad_psgd", "sgp", "halos")}


@pytest.mark.parametrize("kind", names(methods))
def test_methods(resumes, kind):
    local = {"optimizer": PLAIN} if kind in LOCAL else {}
    resumes(made(method=spec(kind), cluster=fitting(kind, LATE), run={"updates": 40}, checkpoint=OFTEN, **local), 38)


@pytest.mark.slow
@pytest.mark.parametrize("kind", names(methods))
def test_thirty_kills_of_every_method(resumes, kind):
    """At thirty arrivals spread over the run, under crashes, a queue and slow links; pipelines in two groups of three stages."""
    own = STAGED if issubclass(methods[kind], PipelineMethod) else {"optimizer": PLAIN} if kind in LOCAL else {}
    scenario = made(method=spec(kind), cluster=fitting(kind, TROUBLE), run={"updates": 40}, checkpoint={"updates": 1}, **own)
    expected = asyncsim.simulate(scenario)
    pushes = expected.summary["pushes"]
    arrivals = np.linspace(pushes // 4, pushes - 1, KILLS).astype(int)
    assert len(set(arrivals)) == KILLS
    resumes(scenario, *arrivals.tolist(), expected=expected)


@pytest.mark.parametrize("kind", names(policies))
def test_transforms(resumes, kind):
    launched = policies[kind].launched is not Transform.launched
    if policies[kind].sub_model is not Transform.sub_model:  # it takes a rule that gives shares, and rounds
        pytest.skip("with its rules, as those of consistency and as methods")
    method = {"kind": "custom", "policy": [spec(kind)], "program": {"kind": "replica", "overlap": launched}}
    resumes(made(method=method, run={"updates": 30}, checkpoint=OFTEN), 28)


@pytest.mark.parametrize("optimizer", [{}, {"momentum": 0.9}], ids=["sgd", "momentum"])
@pytest.mark.parametrize("kind", ["gap_aware", "dana_gap_aware"])
def test_gap_aware_with_the_published_step(resumes, kind, optimizer):
    """What it takes into its mean of squares lies in another state: that of the optimizer."""
    method = {"kind": kind, "step_length": "code"}
    resumes(made(method=method, optimizer={"kind": "sgd", "lr": 0.05} | optimizer, run={"updates": 30}, checkpoint=OFTEN), 29)


@pytest.mark.parametrize("kind", names(optimizers))
def test_optimizers(resumes, kind):
    resumes(made(method="asgd", optimizer={"kind": kind, "lr": 0.01}, run={"updates": 30}), 25)


@pytest.mark.parametrize("kind", names(programs))
def test_programs(resumes, kind):
    schedule = {"kind": "cosine", "unit": "updates", "length": 40}
    resumes(made(method={"kind": "softsync", "n": 1, "program": spec(kind)}, optimizer=PLAIN, schedule=schedule,
                 run={"updates": 30}, checkpoint=OFTEN), 118)  # fmt: skip


@pytest.mark.parametrize("kind", names(consistencies))
def test_consistencies(resumes, kind):
    method = {"kind": "asgd"} if kind != "bsp" else {"kind": "custom", "policy": [{"kind": "accumulate", "members": True}]}
    method |= {"exchange": "push_sum"} if kind == "heard" else {}
    if kind in ("recalibrated", "fixed_shares"):
        method = {"kind": "local_sgd", "before": ["sub_models"]}
    resumes(made(method=method | {"consistency": spec(kind)}, run={"updates": 30}, checkpoint=OFTEN), 28)


@pytest.mark.parametrize("kind", names(exchanges))
def test_exchanges(resumes, kind):
    rule = "bsp" if kind in ("gossip", "all_reduce", "random_mean") else "asp"
    method = {"kind": "asgd", "exchange": kind, "consistency": rule}
    resumes(made(method=method, cluster={"uplink": "200ms"}, run={"updates": 30}, checkpoint=OFTEN), 28)


@pytest.mark.parametrize("kind", names(engines))
@pytest.mark.parametrize("method", ["gap_aware", "bsp", "ringmaster"])
def test_engines(resumes, kind, method):
    faults = {"faults": {"up": {"kind": "exponential", "mean": "10s"}, "down": "2s"}}
    resumes(made(method=spec(method), engine=spec(kind), cluster=faults, run={"updates": 30}, checkpoint=OFTEN), 29)
