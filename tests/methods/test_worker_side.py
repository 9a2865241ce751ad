"""A worker is somebody: what it does to its push, what it keeps from round to round, and what it alone is handed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from interrupting import interrupt

import asyncsim
import asyncsim.streams
from asyncsim.engine.kernels import Kernel, gradient
from asyncsim.errors import UserError
from asyncsim.messages import Gradient
from asyncsim.needs import Need
from asyncsim.policies import State, Transform
from asyncsim.registries import policies, programs
from asyncsim.scenario import Document, Scenario, build_scenario
from asyncsim.simulation.programs import Program

ELASTIC = 0.1


@dataclass(slots=True)
class Residual(State):
    residual: torch.Tensor | None = None


@dataclass(slots=True)
class Held(State):
    start: torch.Tensor | None
    held: dict[int, torch.Tensor] = field(default_factory=dict)


@pytest.fixture(autouse=True)
def _plugins() -> Iterator[None]:
    registries = (policies, programs)
    before = [dict(registry._classes) for registry in registries]

    @policies.register("test_top_k")
    class TopK(Transform):
        """Send the ``keep`` largest entries; what was not sent is added to the next gradient."""

        needs: ClassVar[Need] = Need.VALUES | Need.WORKER_STATE
        notes: ClassVar[tuple[str, ...]] = ("kept_share", "residual_norm")
        keep: int = 20

        def init(self, params, num_workers):
            return Residual()

        def update(self, push, state, server):
            whole = push.gradient if state.residual is None else push.gradient + state.residual
            sent = torch.zeros_like(whole)
            chosen = whole.abs().topk(self.keep).indices
            sent[chosen] = whole[chosen]
            state.residual = whole - sent
            push.note("kept_share", float(sent.norm() / whole.norm()))
            push.note("residual_norm", state.residual.norm())
            push.replaced = sent
            return push

        def nbytes(self, nbytes, numbers):
            return self.keep * 8.0  # a value and an index

    @policies.register("test_difference")
    class Difference(Transform):
        """Hand out the largest differences from what the worker holds, and remember what it holds then."""

        needs: ClassVar[Need] = Need.VALUES | Need.WORKER_VIEW
        keep: int = 40

        def init(self, params, num_workers):
            return Held(params)

        def view(self, params, state, server, worker):
            held = state.held.get(worker, state.start)
            moved = params - held
            chosen = moved.abs().topk(self.keep).indices
            view = held.clone()
            view[chosen] = params[chosen]
            return view

        def handed(self, view, state, server, worker):
            state.held[worker] = view

    class Elastic(Kernel):
        """Elastic averaging: the worker keeps a replica of its own, which the centre and it pull towards each other."""

        carries = True

        def __call__(self, task, streams, params, worker, step, carry):
            own = params if carry is None else carry
            pull = ELASTIC * (own - params)
            result = gradient(task, streams, own, worker, step)
            return Gradient(-pull, result.loss, None, own - pull - 0.1 * result.gradient)

    @programs.register("test_easgd")
    class Easgd(Program):
        needs: ClassVar[Need] = Need.WORKER_STATE

        def kernel(self, snapshot):
            return Elastic()

    yield
    for registry, classes in zip(registries, before, strict=True):
        registry._classes.clear()
        registry._classes.update(classes)


def scenario(method: dict[str, Any], cluster: dict[str, Any] | None = None, **more: Any) -> Scenario:
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [6], "activation": "tanh"}, "batch": 8},
        "cluster": {"workers": 4, "compute": {"kind": "gamma_heterogeneous", "mean": 1}} | (cluster or {}),
        "method": {"kind": "asgd"} | method, "optimizer": {"kind": "sgd", "lr": 1.0 if "program" in method else 0.1},
        "run": {"updates": 60}, "evaluate": {"updates": 60}, "dtype": "float64", **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


TOP_K = {"uplink": ["test_top_k"]}
DIFFERENCE = {"downlink": ["test_difference"]}
EASGD = {"program": "test_easgd"}
CRASHES = {"faults": {"up": {"kind": "exponential", "mean": 6}, "down": 1}}
ENGINES = ("serial", "threaded", {"kind": "batched", "width": 4}, "graphed")


def steps_of(run: Scenario) -> tuple[Any, list[tuple[int, int, int]]]:
    """The task, and worker, step and version read of every push, in order of arrival."""
    updates = asyncsim.plan(run).updates
    task = run.task.build(run.seed, "cpu", "float64", run.groups)
    return task, list(zip(updates["worker"], updates["step"], updates["read_version"], strict=True))


def test_top_k_with_error_feedback_is_the_loop_written_by_hand():
    run = scenario(TOP_K)
    task, pushes = steps_of(run)
    streams = asyncsim.streams.Streams(run.seed)
    versions, residual = [task.init()], {}
    total, sent_in_all = 0, 0
    for worker, step, read in pushes:
        whole = gradient(task, streams, versions[read], worker, step).gradient + residual.get(worker, 0)
        sent = torch.zeros_like(whole)
        chosen = whole.abs().topk(20).indices
        sent[chosen] = whole[chosen]
        total = total + whole - residual.get(worker, 0)
        sent_in_all = sent_in_all + sent
        residual[worker] = whole - sent
        versions.append(versions[-1] - 0.1 * sent)
    parameters = asyncsim.simulate(run).parameters
    assert abs(parameters - versions[-1].numpy()).max() < 1e-12
    assert (total - sent_in_all - sum(residual.values())).abs().max() < 1e-12  # nothing of any gradient is lost
    assert abs(parameters - asyncsim.simulate(scenario({})).parameters).max() > 1e-3


def test_the_size_of_a_message_takes_time_on_a_link_and_an_override_goes_before_it():
    link = {"compute": "1s", "uplink": {"bandwidth": "1kB/s"}, "workers": 1}
    numbers = scenario({}).task.num_parameters()
    runs = {"dense": scenario({}, link), "sparse": scenario(TOP_K, link), "given": scenario(TOP_K, link, push=500)}
    seconds = {name: asyncsim.plan(run).summary["time"] / 60 for name, run in runs.items()}
    assert seconds["dense"] == pytest.approx(1 + numbers * 8 / 1000)
    assert seconds["sparse"] == pytest.approx(1 + 20 * 8 / 1000)
    assert seconds["given"] == pytest.approx(1.5)
    simulated = asyncsim.simulate(runs["sparse"])
    assert simulated.fingerprints["timeline"] == asyncsim.plan(runs["sparse"]).fingerprints["timeline"]


def test_what_a_worker_keeps_is_lost_when_it_goes_down_and_only_then(monkeypatch):
    """A recall of the work, and the crash of another worker, leave it alone."""
    from asyncsim.policies import Uplink

    monkeypatch.setenv("ASYNCSIM_VERIFY", "")  # which plans as well
    forgotten = []
    forget = Uplink.forget
    monkeypatch.setattr(Uplink, "forget", lambda uplink, worker: (forgotten.append(worker), forget(uplink, worker)))
    result = asyncsim.simulate(scenario(TOP_K, CRASHES, engine="serial"))
    assert len(forgotten) == result.summary["crashes"] > 3
    forgotten.clear()
    recalled = asyncsim.simulate(scenario(TOP_K | {"consistency": {"kind": "asp", "recall_after": 3}}))
    assert recalled.summary["recalled"] > 3
    assert forgotten == []


@pytest.mark.parametrize("cluster", [{}, CRASHES], ids=["calm", "crashes"])
def test_easgd_is_the_loop_written_by_hand(cluster):
    """Replicas of their own, carried from round to round, and begun anew after a crash."""
    run = scenario(EASGD, cluster)
    result = asyncsim.simulate(run)
    task, pushes = steps_of(run)
    streams = asyncsim.streams.Streams(run.seed)
    downs = result.events.query("kind == 'down'")
    first_after = {(row.worker, row.step) for row in downs.itertuples()}
    versions, own = [task.init()], {}
    for worker, step, read in pushes:
        replica = own.get(worker, versions[read])
        if any(worker == other and own.get(("step", worker), -1) < begun <= step for other, begun in first_after):
            replica = versions[read]
        pull = ELASTIC * (replica - versions[read])
        own[worker] = replica - pull - 0.1 * gradient(task, streams, replica, worker, step).gradient
        own["step", worker] = step
        versions.append(versions[-1] + pull)
    assert abs(result.parameters - versions[-1].numpy()).max() < 1e-12
    assert abs(result.parameters - versions[0].numpy()).max() > 1e-2
    assert bool(len(downs)) is bool(cluster)


def test_what_a_dropped_result_leaves_is_gone_on_from():
    """The server throws a stale push away; its worker's replica has moved all the same."""
    run = scenario(EASGD | {"before": [{"kind": "drop_stale", "bound": 2}]})
    result = asyncsim.simulate(run)
    assert result.summary["dropped"] > 3
    assert result.summary["gradients_computed"] >= result.summary["pushes"]
    task, pushes = steps_of(run)
    streams = asyncsim.streams.Streams(run.seed)
    versions, own = [task.init()], {}
    for worker, step, read in pushes:
        replica = own.get(worker, versions[read])
        pull = ELASTIC * (replica - versions[read])
        own[worker] = replica - pull - 0.1 * gradient(task, streams, replica, worker, step).gradient
        if len(versions) - 1 - read <= 2:
            versions.append(versions[-1] + pull)
    assert abs(result.parameters - versions[-1].numpy()).max() < 1e-12


def test_a_view_of_its_own_for_every_worker():
    run = scenario(DIFFERENCE)
    task, pushes = steps_of(run)
    reads = asyncsim.simulate(run)
    streams = asyncsim.streams.Streams(run.seed)
    versions, held = [task.init()], {}

    def handed(worker: int, params: torch.Tensor) -> torch.Tensor:
        before = held.get(worker, versions[0])
        chosen = (params - before).abs().topk(40).indices
        held[worker] = before.clone()
        held[worker][chosen] = params[chosen]
        return held[worker]

    snapshots = {worker: handed(worker, versions[0]) for worker in range(4)}
    for worker, step, _ in pushes:
        versions.append(versions[-1] - 0.1 * gradient(task, streams, snapshots[worker], worker, step).gradient)
        snapshots[worker] = handed(worker, versions[-1])
    assert abs(reads.parameters - versions[-1].numpy()).max() < 1e-12
    assert abs(reads.parameters - asyncsim.simulate(scenario({})).parameters).max() > 1e-4


@pytest.mark.parametrize("method", [TOP_K, EASGD, DIFFERENCE, TOP_K | DIFFERENCE | EASGD], ids=["up", "carry", "down", "all"])
@pytest.mark.parametrize("cluster", [{}, CRASHES], ids=["calm", "crashes"])
def test_an_interrupted_run_ends_with_the_bits_of_one_that_was_not(method, cluster, tmp_path):
    run = scenario(method, cluster, checkpoint={"updates": 5})
    expected = asyncsim.simulate(run).fingerprints
    for at in (9, 23, 41):
        interrupt(run, tmp_path / str(at), after=at)
        assert asyncsim.resume(tmp_path / str(at)).fingerprints == expected


@pytest.mark.parametrize("method", [TOP_K, EASGD, DIFFERENCE], ids=["up", "carry", "down"])
def test_all_engines_agree(method):
    expected = asyncsim.simulate(scenario(method, engine="serial")).parameters
    for engine in ENGINES[1:]:
        assert np.abs(asyncsim.simulate(scenario(method, engine=engine)).parameters - expected).max() < 1e-12


@pytest.mark.parametrize("engine", ENGINES)
def test_two_rounds_of_a_worker_in_one_mean_are_computed_once_each(engine):
    """The second begins with what the first leaves, and both are asked for at once."""
    method = EASGD | {"kind": "custom", "policy": [{"kind": "accumulate", "each": 2}]}
    reference = asyncsim.simulate(scenario(method, engine="serial", run={"updates": 10}))
    result = asyncsim.simulate(scenario(method, engine=engine, run={"updates": 10}))
    assert result.summary["gradients_computed"] == result.summary["pushes"] == reference.summary["gradients_computed"]
    assert np.abs(result.parameters - reference.parameters).max() < 1e-12


def test_what_a_part_notes_is_a_column_of_the_run(tmp_path):
    run = scenario(TOP_K, records={"events": False})
    result = asyncsim.simulate(run, tmp_path)
    read = asyncsim.load_result(tmp_path)
    for updates in (result.updates, read.updates):
        assert list(updates.columns)[-3:] == ["kept_share", "residual_norm", "loss"]
        assert ((updates["kept_share"] > 0.2) & (updates["kept_share"] < 1)).all()
        assert (updates["residual_norm"] > 0).all()
        assert updates["kept_share"].nunique() == len(updates)
    planned = asyncsim.plan(run).updates
    assert planned["kept_share"].isna().all()
    assert list(planned.columns) == list(result.updates.columns)
    assert "kept_share" not in asyncsim.simulate(scenario({})).updates


def test_a_note_that_was_not_declared_is_an_error():
    @policies.register("test_notes")
    class Notes(Transform):
        def update(self, push, state, server):
            push.note("surprise", 1.0)
            return push

    with pytest.raises(UserError, match=r"noted 'surprise', which no part of the method has declared"):
        asyncsim.simulate(scenario({"before": ["test_notes"]}))

    @policies.register("test_clash")
    class Clash(Transform):
        notes: ClassVar[tuple[str, ...]] = ("gap",)

        def update(self, push, state, server):
            return push

    with pytest.raises(UserError, match="`gap`, which is a column of every run already"):
        scenario({"before": ["test_clash"]})


def test_what_cannot_work_is_refused_by_name():
    with pytest.raises(UserError, match=r"`drop_stale` cannot be part of an `uplink`.*`drops`"):
        scenario({"uplink": [{"kind": "drop_stale", "bound": 1}]})
    with pytest.raises(UserError, match="`clip` does not change what workers are handed"):
        scenario({"downlink": [{"kind": "clip", "max_norm": 1}]})
    with pytest.raises(UserError, match="`test_difference` does not change a push: it has no `update`"):
        scenario({"uplink": ["test_difference"]})
    for kind, call in (("gap_aware", "applied"), ("discrepancy_correction", "applied")):
        with pytest.raises(UserError, match=rf"`{kind}` works at the server: its `{call}`.*an `uplink`; take `before"):
            scenario({"uplink": [kind]})

    @policies.register("test_mean_step")
    class MeanStep(Transform):
        """Hand out a look-ahead over the mean step."""

        def view(self, params, state, server, worker):
            return params

        def applied(self, direction, state, server):
            pass

    with pytest.raises(UserError, match="its `applied` would never be called in a `downlink`"):
        scenario({"downlink": ["test_mean_step"]})
    with pytest.raises(UserError, match=r"has the property `worker_view`"):
        scenario(DIFFERENCE | {"kind": "pipedream", "vertical_sync": True}, stages=2)
