"""What the parts of a method need or do is declared, and what has been declared is enforced."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import pytest

import asyncsim
from asyncsim.cli import main
from asyncsim.consistency import ASP, Consistency
from asyncsim.errors import UserError
from asyncsim.needs import MEANING, Need
from asyncsim.policies import Push, State, Transform, Verdict
from asyncsim.registries import consistencies, methods, optimizers, policies, programs
from asyncsim.scenario import Document, Scenario, build_scenario


@dataclass(slots=True)
class Usual(State):
    """The running mean of the losses."""

    usual: float | None = None


@pytest.fixture(autouse=True)
def _plugins() -> Iterator[None]:
    registries = (policies, consistencies)
    before = [dict(registry._classes) for registry in registries]

    @policies.register("test_silent_drop")
    class SilentDrop(Transform):
        def update(self, push, state, server):
            return Verdict.DROPPED if push.step % 2 else push

    @policies.register("test_silent_buffer")
    class SilentBuffer(Transform):
        needs: ClassVar[Need] = Need.DROPS

        def update(self, push, state, server):
            return Verdict.BUFFERED

    @policies.register("test_looks")
    class Looks(Transform):
        def update(self, push, state, server):
            push.replaced = push.gradient * 2
            return push

    def worse_than_usual(push: Push, state: Usual) -> bool:
        loss = float(push.payload.result().loss)
        state.usual = loss if state.usual is None else state.usual
        worse = loss > state.usual
        state.usual += 0.2 * (loss - state.usual)
        return worse

    @policies.register("test_by_loss")
    class ByLoss(Transform):
        """Drop what has a loss above the running mean; says so."""

        needs: ClassVar[Need] = Need.DROPS | Need.VALUES

        def init(self, params, num_workers):
            return Usual()

        def update(self, push, state, server):
            return Verdict.DROPPED if worse_than_usual(push, state) else push

    @policies.register("test_secretly_by_loss")
    class SecretlyByLoss(Transform):
        """The same, but it has not declared that it looks."""

        needs: ClassVar[Need] = Need.DROPS

        def init(self, params, num_workers):
            return Usual()

        def update(self, push, state, server):
            return Verdict.DROPPED if push.payload is not None and worse_than_usual(push, state) else push

    @consistencies.register("test_pair")
    class Pair(Consistency):
        """A rule that neither the project nor its checks have heard of; it waits."""

        def admits(self, worker, progress):
            return True

    yield
    for registry, classes in zip(registries, before, strict=True):
        registry._classes.clear()
        registry._classes.update(classes)


def scenario(*policy: str, **more: object) -> Scenario:
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [8]}, "batch": 8},
        "cluster": {"workers": 4, "compute": {"kind": "gamma_heterogeneous", "mean": 1}},
        "method": {"kind": "custom", "policy": list(policy)}, "optimizer": {"kind": "sgd", "lr": 0.1},
        "run": {"updates": 40}, "evaluate": {"updates": 40}, **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


@pytest.mark.parametrize("simulated", [asyncsim.simulate, asyncsim.plan])
@pytest.mark.parametrize(("policy", "need"), [("test_silent_drop", "DROPS"), ("test_silent_buffer", "BUFFERS")])
def test_a_verdict_that_was_not_declared_is_an_error_that_teaches(policy, need, simulated):
    with pytest.raises(UserError, match=rf"`{policy}` returned Verdict.{need[:4]}.*needs = Need.{need}"):
        simulated(scenario(policy))


def test_a_gradient_in_a_plan_is_an_error_that_teaches(monkeypatch):
    monkeypatch.setenv("ASYNCSIM_VERIFY", "")  # which plans as well
    assert asyncsim.simulate(scenario("test_looks")).summary["status"] == "finished"
    with pytest.raises(UserError, match=r"asked for a gradient.*Need.VALUES"):
        asyncsim.plan(scenario("test_looks"))


@pytest.mark.parametrize("engine", ["serial", "threaded", {"kind": "batched", "width": 4}])
def test_timing_that_depends_on_numbers_is_declared_refused_by_plan_and_run_without_looking_ahead(engine, tmp_path, monkeypatch):
    by_loss = scenario("test_by_loss", engine=engine)
    assert by_loss.bundle().decided_by_values == ["test_by_loss"]
    with pytest.raises(UserError, match=r"`custom` cannot be planned: `test_by_loss` decides by gradients, parameters or losses"):
        asyncsim.plan(by_loss)
    monkeypatch.setattr("asyncsim.run.timelines.Fates", None)  # nobody looks ahead
    result = asyncsim.simulate(by_loss, tmp_path)
    assert result.manifest["timeline"] == "by values"
    assert result.summary["dropped"] > 5
    assert asyncsim.simulate(by_loss).fingerprints == result.fingerprints


def test_a_run_that_reaches_its_target_before_it_would_get_stuck():
    """A plan does not know of the target, and finds that the server comes to nothing: engines that compute ahead may not refuse
    what the others run."""
    cluster = {"workers": 3, "server": {"faults": {"up": 1.0, "down": 1.0}, "checkpoint": "4s"}}
    length = {"updates": 15, "target": {"metric": "test_accuracy", "at_least": 0.0}}
    runs = [asyncsim.simulate(scenario(cluster=cluster, method="ringmaster", engine=engine, run=length))
            for engine in ("serial", "threaded")]  # fmt: skip
    assert runs[0].fingerprints == runs[1].fingerprints
    with pytest.raises(UserError, match="deadlock"):
        asyncsim.plan(scenario(cluster=cluster, method="ringmaster", run={"updates": 15}))


def test_a_run_whose_timeline_is_its_plans_says_nothing_of_values():
    assert "timeline" not in asyncsim.simulate(scenario()).manifest


def test_verify_finds_a_part_that_decides_by_numbers_in_secret(monkeypatch):
    monkeypatch.setenv("ASYNCSIM_VERIFY", "1")
    with pytest.raises(UserError, match=r"a plan decides what the run decides; .*Need.VALUES"):
        asyncsim.simulate(scenario("test_secretly_by_loss"))
    monkeypatch.setenv("ASYNCSIM_VERIFY", "")
    assert asyncsim.simulate(scenario("test_secretly_by_loss")).summary["dropped"] > 5  # nothing else would have told


def test_a_rule_of_ones_own_is_refused_by_the_name_of_the_missing_property():
    """Ring all-reduce needs rounds of everybody, whoever makes them: no type is asked."""
    method = {"kind": "bsp", "consistency": "test_pair"}
    with pytest.raises(UserError, match=r"rounds in which every worker takes part.*the method lacks the property `rounds`"):
        scenario(method=method, cluster={"workers": 4, "all_reduce": "ring"})
    with pytest.raises(UserError, match=r"nobody waits.*the method has the property `waits`"):
        scenario(method={"kind": "asgd", "consistency": "test_pair", "program": {"kind": "replica", "overlap": True}})


def test_needs_follow_the_settings():
    assert Need.RECALLS not in ASP().needs
    assert Need.RECALLS in ASP(recall_after=3).needs
    assert Need.OVERLAPS in programs.parse({"kind": "local_sgd", "overlap": True}).needs
    assert programs.parse("local_sgd").needs == Need.LOCAL_RATE


def test_every_property_is_explained_used_and_listed(capsys):
    assert set(MEANING) == set(Need)
    assert main(["list", "--needs"]) == 0
    printed = capsys.readouterr().out
    for need in Need:
        assert f"{need.name.lower()} " in printed
    for registry in (methods, policies, optimizers, consistencies, programs):
        assert all(name in printed for name in registry.names())
