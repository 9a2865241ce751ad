"""Rounds with a lag: the push of a round travels while the next is computed, and is applied a round later."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import asyncsim
import asyncsim.streams
from asyncsim.engine.kernels import gradient
from asyncsim.scenario import Document, Scenario, ScenarioError, build_scenario

sys.path.append(str(Path(__file__).parents[1] / "resume"))
from dying import kill, same

WORKERS, LR = 4, 0.2
LAGGED = {"kind": "bsp", "consistency": {"kind": "bsp", "lag": 1}, "program": {"kind": "replica", "overlap": True}}
UNEQUAL = {"compute": {"kind": "gamma_heterogeneous", "mean": 1}, "uplink": "300ms"}


def scenario(cluster: dict[str, Any], **more: Any) -> Scenario:
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [6], "activation": "tanh"}, "batch": 8},
        "cluster": {"workers": WORKERS, "compute": "1s"} | cluster, "method": LAGGED,
        "optimizer": {"kind": "sgd", "lr": LR}, "run": {"updates": 30}, "evaluate": {"updates": 30}, "dtype": "float64", **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


@pytest.mark.parametrize("cluster", [{"uplink": "300ms"}, {"uplink": "2500ms"}, {}, UNEQUAL, {"all_reduce": "ring", **UNEQUAL}])
def test_an_update_is_the_mean_gradient_one_version_behind(cluster):
    """``x_{k+1} = x_k - lr * mean_s g_s(x_{k-1})``, whoever is slow: a plain loop gives the same to 1e-12."""
    run = scenario(cluster)
    task, streams = run.task.build(run.seed, "cpu", "float64", run.groups), asyncsim.streams.Streams(run.seed)
    versions = [task.init()]
    for step in range(30):
        read = versions[max(step - 1, 0)]
        total = sum(gradient(task, streams, read, worker, step).gradient for worker in range(WORKERS))
        versions.append(versions[-1] - LR * total / WORKERS)
    result = asyncsim.simulate(run)
    assert abs(result.parameters - versions[-1].numpy()).max() < 1e-12
    assert set(result.updates.staleness[WORKERS:]) == {1}


@pytest.mark.parametrize(("latency", "seconds"), [(0.1, 1.0), (0.4, 2.4)])
def test_a_round_takes_the_longer_of_computing_and_all_reduce(latency, seconds):
    """A ring of 4 passes 6 messages one after the other: the first round takes both, the others the longer of the two."""
    cluster = {"all_reduce": "ring", "uplink": latency}
    assert asyncsim.plan(scenario(cluster)).summary["time"] == pytest.approx(1 + 6 * latency + 29 * seconds)
    plain = asyncsim.plan(scenario(cluster, method="bsp"))
    assert plain.summary["time"] == pytest.approx(30 * (1 + 6 * latency))


def test_a_run_goes_on_with_the_same_bits(tmp_path):
    one = scenario(UNEQUAL, checkpoint={"updates": 5}, engine="serial")
    kill(one, tmp_path / "run", at=70)
    same(asyncsim.resume(tmp_path / "run"), asyncsim.simulate(one))


def test_the_laws_hold_and_crashes_lose_what_travels(monkeypatch):
    monkeypatch.setenv("ASYNCSIM_VERIFY", "1")
    faults = {"faults": {"up": {"kind": "exponential", "mean": 12}, "down": 2}}
    result = asyncsim.simulate(scenario(UNEQUAL | faults))
    assert result.summary["updates"] == 30
    assert result.summary["crashes"] > 3
    assert (result.updates.groupby("version").size() <= WORKERS).all()


def test_who_leaves_for_good_holds_nobody_up():
    result = asyncsim.plan(scenario(UNEQUAL | {"events": [{"at": "5s", "workers": [1], "stop": True}]}))
    assert result.summary["updates"] == 30


@pytest.mark.parametrize(("method", "words"), [
    ({"consistency": {"kind": "bsp", "lag": 1}}, "overlap"),
    ({"program": {"kind": "replica", "overlap": True}}, "overlap"),
    ({"consistency": {"kind": "bsp", "lag": 1, "cancel": True}, "program": LAGGED["program"]}, "cancel"),
    ({"consistency": {"kind": "bsp", "lag": 2}, "program": LAGGED["program"]}, "lag: must be at most 1"),
])  # fmt: skip
def test_what_cannot_be_is_refused(method, words):
    with pytest.raises(ScenarioError, match=words):
        scenario({}, method={"kind": "bsp"} | method)
