"""A push whose size depends on what is in it: a sparsifier by threshold, whose bytes links, bills and a resumed run agree on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import asyncsim
from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.policies import State, Transform
from asyncsim.registries import policies
from asyncsim.scenario import Document, Scenario, ScenarioError, build_scenario

sys.path.append(str(Path(__file__).parents[1] / "resume"))
from dying import kill, same


@dataclass(slots=True)
class Residual(State):
    residual: torch.Tensor | None = None


NUMBERS = 64 * 6 + 6 + 6 * 10 + 10
BANDWIDTH = 1e3
PRICES = {"instance": {"price": "1/h", "egress": "0.1/GB"}}


@pytest.fixture(autouse=True)
def _plugin() -> Iterator[None]:
    before = dict(policies._classes)

    @policies.register("test_threshold")
    class Threshold(Transform):
        """Send the entries above ``least``; the others are added to the next gradient. A value and an index take 8 bytes."""

        needs: ClassVar[Need] = Need.VALUES | Need.SIZES | Need.WORKER_STATE
        notes: ClassVar[tuple[str, ...]] = ("kept",)
        least: float = 0.02

        def init(self, params, num_workers):
            return Residual()

        def update(self, push, state, server):
            whole = push.gradient if state.residual is None else push.gradient + state.residual
            push.replaced = torch.where(whole.abs() >= self.least, whole, 0.0)
            state.residual = whole - push.replaced
            push.note("kept", float(push.replaced.count_nonzero()))
            return push

        def nbytes(self, nbytes, numbers):
            return 8.0 * numbers

        def sent_bytes(self, push, nbytes, numbers):
            return 8.0 * float(push.replaced.count_nonzero())

    yield
    policies._classes.clear()
    policies._classes.update(before)


def scenario(cluster: dict[str, Any] | None = None, method: dict[str, Any] | None = None, **more: Any) -> Scenario:
    fleet = {"workers": 4, "compute": {"kind": "gamma_heterogeneous", "mean": 1}, **PRICES,
             "uplink": {"latency": "100ms", "bandwidth": BANDWIDTH}, "downlink": {"bandwidth": 1e4}}  # fmt: skip
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [6], "activation": "tanh"}, "batch": 8},
        "cluster": fleet | (cluster or {}), "method": {"kind": "asgd", "uplink": ["test_threshold"]} | (method or {}),
        "optimizer": {"kind": "sgd", "lr": 0.1}, "run": {"updates": 60}, "evaluate": {"updates": 60}, "dtype": "float64", **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


def test_every_push_takes_the_time_of_its_bytes():
    """Each upload lasts its latency and 8 bytes an entry kept, to the nanosecond; and sizes differ."""
    run = asyncsim.simulate(scenario())
    kept = {(row.worker, row.step): row.kept for row in run.updates.itertuples()}
    uploads = run.events[(run.events.kind == "upload") & run.events.complete]
    took = {(row.worker, row.step): row.end_ns - row.start_ns for row in uploads.itertuples()}
    assert all(took[key] == round(1e9 * (0.1 + 8 * count / BANDWIDTH)) for key, count in kept.items())
    assert len(set(kept.values())) > 20
    assert max(kept.values()) < NUMBERS


@pytest.mark.parametrize("cluster", [{}, {"network": {"kind": "flat", "ingress": 2e3}}])
def test_the_bill_counts_the_same_bytes(cluster):
    run = asyncsim.simulate(scenario(cluster))
    downloads = int(((run.events.kind == "download") & run.events.complete).sum())
    sent = 8 * run.updates.kept.sum() + 8 * NUMBERS * downloads
    assert run.summary["bytes_sent"] == pytest.approx(sent, rel=1e-12)


@pytest.mark.parametrize(("cluster", "more"), [
    ({}, {}),
    ({"faults": {"up": {"kind": "exponential", "mean": 15}, "down": 1}}, {}),
    ({"network": {"kind": "flat", "ingress": 2e3}}, {}),
    ({"server": {"service": "300ms"}}, {"method": {"program": {"kind": "replica", "overlap": True}}}),
])  # fmt: skip
def test_a_run_goes_on_with_the_same_bits(tmp_path, cluster, more):
    """Killed while treated pushes are under way."""
    one = scenario(cluster, checkpoint={"updates": 7}, engine="serial", **more)
    kill(one, tmp_path / "run", at=40)
    same(asyncsim.resume(tmp_path / "run"), asyncsim.simulate(one))


@pytest.mark.parametrize("engine", ["threaded", {"kind": "batched", "width": 4}])
def test_engines_agree(engine):
    one, other = asyncsim.simulate(scenario(engine="serial")), asyncsim.simulate(scenario(engine=engine))
    assert one.fingerprints["timeline"] == other.fingerprints["timeline"]
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=1e-9, atol=1e-12)


def test_the_laws_hold(monkeypatch):
    monkeypatch.setenv("ASYNCSIM_VERIFY", "1")
    assert asyncsim.simulate(scenario()).summary["status"] == "finished"


def test_a_size_given_by_hand_stands():
    run = asyncsim.simulate(scenario(push=500))
    uploads = run.events[(run.events.kind == "upload") & run.events.complete]
    assert set(uploads.end_ns - uploads.start_ns) == {600_000_000}


def test_where_links_are_free_a_treated_push_still_arrives():
    """A bandwidth stands in the scenario, and no worker has it: sizes are asked for, and take no time."""
    free = {"workers": 1, "instance": None, "compute": "1s", "overrides": {0: {"uplink": {}, "downlink": {}}}}
    run = asyncsim.simulate(scenario(free))
    assert run.summary["time"] == pytest.approx(60)
    assert run.updates.kept.nunique() > 10


def test_a_run_that_diverges_goes_on_with_usual_sizes():
    run = asyncsim.simulate(scenario(optimizer={"kind": "sgd", "lr": 1e308}))
    uploads = run.events[(run.events.kind == "upload") & run.events.complete]
    assert run.summary["status"] == "diverged"
    assert (uploads.end_ns - uploads.start_ns).iloc[-1] == round(1e9 * (0.1 + 8 * NUMBERS / BANDWIDTH))


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="cannot be planned: `test_threshold`"):
        asyncsim.plan(scenario())
    with pytest.raises(ScenarioError, match="called back"):
        scenario(method={"consistency": {"kind": "asp", "recall_after": 2}})
    with pytest.raises(ScenarioError, match=r"downlink.*`sizes`"):
        scenario(method={"uplink": [], "downlink": ["test_threshold"]})


def test_a_size_that_is_none_is_refused(monkeypatch):
    monkeypatch.setattr(policies._classes["test_threshold"], "sent_bytes", lambda self, push, nbytes, numbers: -1.0)
    with pytest.raises(UserError, match="0 or more"):
        asyncsim.simulate(scenario())
