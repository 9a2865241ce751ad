"""Two numeric families, serial = threaded and batched: bits within, 1e-12 between. Work that is lost is not computed."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from on_device import DEVICE, SLACK, cpu_only
from torch import nn

import asyncsim
from asyncsim.engine import batched
from asyncsim.engine.dense import DenseNetwork
from asyncsim.engine.spec import Auto, Batched, Serial, Threaded
from asyncsim.engine.vectorised import VectorisedModule
from asyncsim.errors import UserError
from asyncsim.registries import methods
from asyncsim.scenario import Document, Scenario, build_scenario
from asyncsim.tasks.task import Task

MLP = {"kind": "digits", "model": {"kind": "mlp", "hidden": [37], "activation": "tanh"}, "batch": 27}
SOFTMAX = {"kind": "digits", "model": "softmax", "batch": 16}
CNN = {"kind": "mnist5k", "model": "cnn", "batch": 8}
RESNET = {"kind": "mnist5k", "model": "resnet8", "batch": 8}
TRANSFORMER = {"kind": "pydoc_lm", "model": {"kind": "transformer", "dim": 16, "context": 12, "dropout": 0.2}, "batch": 4}
REQUIRED = {"k_sync": {"k": 3}, "softsync": {"n": 2}, "gpipe": {"micro_batches": 3}, "pipedream_2bw": {"micro_batches": 3},
            "weight_update_magnitudes": {"shares": {1: 0.5, 2: 0.75}, "local_steps": 1}, "fluid": {"local_steps": 1}}  # fmt: skip
LOCAL = ("local_sgd", "fedbuff", "fedasync", "easgd", "eamsgd", "diloco", "co2", "overlap_local_sgd", "eager_diloco",
         "fluid", "weight_update_magnitudes", "co_running", "async_local_sgd", "halos", "streaming_diloco")  # fmt: skip


def scenario(engine, task=MLP, method="gap_aware", updates=60, workers=6, **more) -> Scenario:
    name = method if isinstance(method, str) else method["kind"]
    data = {
        "task": task, "method": {"kind": name, **REQUIRED.get(name, {})} if isinstance(method, str) else method, "engine": engine,
        "cluster": {"workers": workers, "compute": {"kind": "cvb", "mean": 1, "cv_machine": 0.6, "cv_task": 0.2}},
        "optimizer": {"kind": "sgd", "lr": 1.0 if name in LOCAL else 0.02, **({} if name in LOCAL else {"momentum": 0.9})},
        "run": {"updates": updates}, "evaluate": {"updates": updates}, "device": DEVICE, **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


def trajectory(*arguments, **options) -> str:
    return asyncsim.simulate(scenario(*arguments, **options)).fingerprints["trajectory"]


@pytest.mark.parametrize("task", [MLP, CNN, RESNET, TRANSFORMER], ids=["mlp", "cnn", "resnet", "transformer with dropout"])
def test_a_pool_of_threads_has_the_serial_bits(task):
    updates = 60 if task is MLP else 24
    serial = trajectory({"kind": "serial"}, task=task, updates=updates)
    assert trajectory({"kind": "threaded", "cores": 1}, task=task, updates=updates) == serial
    assert trajectory({"kind": "threaded", "cores": 3}, task=task, updates=updates) == serial


@pytest.mark.parametrize("method", [name for name, _ in methods])
def test_every_method_has_one_trajectory_in_each_family(method, monkeypatch):
    """Serial and threaded agree; batched agrees with itself when flushes are composed in another way. Micro-batches are passes of
    stages, for the serial engine alone: it agrees with itself, and the others are refused."""
    if scenario("auto", method=method).staged:
        assert trajectory("auto", method=method) == trajectory({"kind": "serial"}, method=method)
        with pytest.raises(UserError, match="takes the engine serial"):
            scenario({"kind": "threaded"}, method=method)
        return
    assert trajectory({"kind": "threaded"}, method=method) == trajectory({"kind": "serial"}, method=method)
    expected = trajectory({"kind": "batched", "width": 4}, method=method)
    real = batched.flush
    monkeypatch.setattr(batched, "flush", lambda needed, pending, width: real(needed, [], width))
    assert trajectory({"kind": "batched", "width": 4}, method=method) == expected


def compositions():
    """Ways to choose what a flush computes besides what is needed."""
    real, shuffled = batched.flush, random.Random(0)

    def some(needed, pending, width):
        chosen = [future for future in pending if shuffled.random() < 0.4]
        shuffled.shuffle(chosen)
        real(needed, chosen, width)

    def newest(needed, pending, width):
        real(needed, pending[::-1], width)

    def alone(needed, pending, width):
        for future in needed:
            real([future], [], width)

    return {"default": real, "random": some, "newest first": newest, "one by one": alone}


@pytest.mark.parametrize("task", [MLP, SOFTMAX, CNN], ids=["mlp", "softmax", "cnn"])
def test_bits_do_not_depend_on_the_company_in_a_call(task, monkeypatch):
    """Odd sizes on purpose: their rows would be aligned differently in every slot without padding."""
    updates = 16 if task is CNN else 80
    seen = {}
    for name, flush in compositions().items():
        monkeypatch.setattr(batched, "flush", flush)
        seen[name] = trajectory({"kind": "batched", "width": 4}, task=task, updates=updates)
    assert len(set(seen.values())) == 1, seen


@pytest.mark.parametrize(
    "method",
    ["gap_aware", {"kind": "gap_aware", "step_length": "code"}, "dana_gap_aware", "softsync", "fedbuff", "local_sgd", "bsp",
     "dc_asgd"],
    ids=str,
)  # fmt: skip
def test_families_agree_in_double_precision(method):
    results = [
        asyncsim.simulate(scenario(engine, method=method, dtype="float64", updates=40))
        for engine in ({"kind": "serial"}, {"kind": "batched", "width": 4}, {"kind": "batched", "width": 1})
    ]
    for other in results[1:]:
        np.testing.assert_allclose(other.parameters, results[0].parameters, rtol=0, atol=1e-12 * SLACK)
        np.testing.assert_allclose(other.updates["loss"], results[0].updates["loss"], rtol=0, atol=1e-11 * SLACK)


@pytest.mark.parametrize("engine", [{"kind": "batched", "width": 2}, {"kind": "threaded"}], ids=lambda e: e["kind"])
def test_means_of_means_are_means(engine):
    """Two buffers in a row, with a penalty between them: pairs of pairs."""
    policy = [{"kind": "accumulate", "count": 2}, {"kind": "staleness_aware"}, {"kind": "accumulate", "count": 2}]
    method = {"kind": "custom", "policy": policy}
    one, other = (
        asyncsim.simulate(scenario(each, method=method, dtype="float64", updates=20)) for each in ({"kind": "serial"}, engine)
    )
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=0, atol=1e-12 * SLACK)
    assert one.summary["pushes"] == 80


def test_families_agree_for_a_convolutional_network():
    one, other = (
        asyncsim.simulate(scenario(engine, task=CNN, dtype="float64", updates=10, method="asgd"))
        for engine in ({"kind": "serial"}, {"kind": "batched", "width": 2})
    )
    np.testing.assert_allclose(one.parameters, other.parameters, rtol=0, atol=1e-12 * SLACK)


@pytest.mark.parametrize("engine", [{"kind": "batched"}, {"kind": "threaded"}, {"kind": "serial"}], ids=lambda e: e["kind"])
@pytest.mark.parametrize(
    "method",
    [{"kind": "ringmaster", "threshold": 3}, {"kind": "ringmaster", "threshold": 3, "stops": True}, {"kind": "k_sync", "k": 2}],
    ids=["drops", "recalls", "cancels"],
)
def test_lost_work_is_never_computed(engine, method):
    """Every gradient that is computed was applied or buffered: dropped, recalled and crashed work is known from the timeline."""
    more = {"cluster": {"workers": 6, "compute": {"kind": "exponential", "mean": 1},
                        "faults": {"up": {"kind": "exponential", "mean": 20}, "down": 2}}}  # fmt: skip
    result = asyncsim.simulate(scenario(engine, method=method, updates=120, **more))
    used = int((result.updates["outcome"] != "dropped").sum())
    assert result.summary["crashes"] > 0
    assert result.summary["dropped"] + result.summary["recalled"] > 0
    assert result.summary["gradients_computed"] == used


class TestDense:
    @pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh])
    @pytest.mark.parametrize("bias", [True, False])
    @pytest.mark.parametrize("width", [1, 3])
    def test_closed_form_is_the_gradient_of_autograd(self, activation, bias, width):
        torch.manual_seed(0)
        module = nn.Sequential(
            nn.Flatten(), nn.Linear(12, 9, bias=bias), activation(), nn.Linear(9, 5), activation(), nn.Linear(5, 4)
        )
        data = torch.randn(60, 3, 4, dtype=torch.float64), torch.randint(4, (60,))
        task = Task.from_module(module, train=data, test=data, batch=7, dtype="float64", device=DEVICE)
        network = DenseNetwork.of(task)
        assert network is not None
        rows = torch.randn(width, task.layout.num_parameters + 3, dtype=torch.float64).to(DEVICE)
        batches = [task.batch(worker, 0) for worker in range(width)]
        inputs, targets = (torch.stack(part) for part in zip(*batches, strict=True))
        gradients, losses = network.gradients(rows, inputs, targets)
        for index, (x, y) in enumerate(batches):
            task.bind(rows[index, : task.layout.num_parameters].clone())
            loss = task.loss(task.module(x), y)
            expected = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, task.parameters)])
            torch.testing.assert_close(gradients[index, : len(expected)], expected, rtol=0, atol=1e-13 * SLACK)
            torch.testing.assert_close(losses[index], loss.detach(), rtol=0, atol=1e-13 * SLACK)

    @pytest.mark.parametrize(
        "module",
        [nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2)), nn.Linear(4, 2),
         nn.Sequential(nn.Linear(4, 2), nn.ReLU()), nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.ReLU(), nn.Linear(3, 2))],
    )  # fmt: skip
    def test_other_structures_are_left_to_the_general_path(self, module):
        data = torch.randn(20, 4), torch.randint(2, (20,))
        task = Task.from_module(module, train=data, test=data, batch=4)
        assert DenseNetwork.of(task) is None
        assert isinstance(batched.network_of(task), VectorisedModule)


@cpu_only
def test_auto_is_a_static_rule_and_stands_in_the_manifest():
    def chosen(task, workers=32, **options):
        made = scenario({"kind": "auto"}, task=task, workers=workers)
        return Auto(**options).resolve(made.task.build(0), workers)

    small = {"kind": "digits", "model": {"kind": "mlp", "hidden": [64]}}
    assert chosen(small) == Batched(width=8)
    assert chosen(small, workers=2) == Batched(width=1)
    assert chosen(small, workers=8) == Batched(width=4)
    assert chosen({"kind": "mnist5k", "model": {"kind": "mlp", "hidden": [256]}}) == Batched(width=1)
    assert chosen(RESNET) == Serial()
    assert chosen({**RESNET, "batch": 64}, cores=2) == Threaded(cores=2)
    assert chosen({"kind": "quadratic"}) == Serial()
    result = asyncsim.simulate(scenario({"kind": "auto"}, task=small, updates=5))
    assert result.manifest["engine"] == {"kind": "batched", "width": 4, "kernel": "dense"}
    result = asyncsim.simulate(scenario({"kind": "batched"}, task=RESNET, updates=3))
    assert result.manifest["engine"]["kernel"] == "loop"


class TestFleet:
    def test_members_have_the_bits_of_solo_runs(self):
        members = [
            scenario({"kind": "batched", "width": 4}, method=method, seed=seed, updates=50, workers=workers)
            for method, seed, workers in [("gap_aware", 0, 6), ("asgd", 1, 3), ("fedbuff", 0, 5), ("bsp", 2, 4)]
        ] + [scenario({"kind": "serial"}), scenario({"kind": "batched", "width": 4}, task=SOFTMAX)]  # fmt: skip
        alone = [asyncsim.simulate(member) for member in members]
        together = asyncsim.simulate_many(members)
        assert [run.fingerprints for run in together] == [run.fingerprints for run in alone]

    def test_an_error_ends_one_member_only(self):
        bad = scenario({"kind": "batched"}, task={**MLP, "batch": 100_000})
        error, result = asyncsim.simulate_many([bad, scenario({"kind": "batched"}, updates=10)])
        assert isinstance(error, UserError)
        assert result.summary["updates"] == 10

    def test_a_fleet_fills_its_calls(self, monkeypatch):
        """Heterogeneous workers leave calls half empty in one run; several runs share them."""
        calls = []
        real = batched._compute
        monkeypatch.setattr(batched, "_compute", lambda jobs, width: (calls.append(len(jobs)), real(jobs, width))[1])
        members = [scenario({"kind": "batched", "width": 16}, seed=seed) for seed in range(6)]
        asyncsim.simulate(members[0])
        solo = np.mean(calls)
        calls.clear()
        asyncsim.simulate_many(members)
        assert np.mean(calls) > 2 * solo
