"""A program with a kernel of its own: every engine computes that kernel, not the plain gradient in its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import torch
from interrupting import interrupt
from on_device import DEVICE, cpu_only

import asyncsim
from asyncsim.engine.kernels import Kernel, LocalSteps, gradient
from asyncsim.messages import Gradient
from asyncsim.registries import programs
from asyncsim.scenario import Document, Scenario, build_scenario
from asyncsim.simulation.programs import LocalSGD, Program

BATCHED = {"kind": "batched", "width": 4}
ENGINES = ("serial", "threaded", "graphed", BATCHED, {"kind": "batched", "width": 1}, "auto")


def zeros(task, streams, params, worker, step) -> Gradient:
    """A function may be a kernel too."""
    return Gradient(torch.zeros_like(params), torch.zeros((), dtype=params.dtype, device=params.device), None)


@dataclass(frozen=True)
class Backwards(LocalSteps):
    """Inherits all but the function itself: local steps uphill."""

    def __call__(self, task, streams, params, worker, step):
        result = super().__call__(task, streams, params, worker, step)
        return result._replace(gradient=-result.gradient)


@dataclass(frozen=True)
class Halved(Kernel):
    """Half the gradient, and how it batches."""

    share: float = 0.5

    def __call__(self, task, streams, params, worker, step):
        result = gradient(task, streams, params, worker, step)
        return result._replace(gradient=result.gradient * self.share)

    def batched(self, call):
        gradients, losses = call.gradients(call.params, [job.step for job in call.jobs])
        return gradients * self.share, losses


@pytest.fixture(autouse=True)
def _programs() -> Iterator[None]:
    before = dict(programs._classes)

    @programs.register("test_zeros")
    class Zeros(Program):
        def kernel(self, snapshot):
            return zeros

    @programs.register("test_backwards")
    class BackwardsProgram(LocalSGD):
        def kernel(self, snapshot):
            return Backwards(self.steps, self.lr * snapshot.lr_factor, self.momentum)

    @programs.register("test_halved")
    class HalvedProgram(Program):
        def kernel(self, snapshot):
            return Halved()

    yield
    programs._classes.clear()
    programs._classes.update(before)


def scenario(program: str, engine: object, method: str = "asgd", **more: object) -> Scenario:
    data = {
        "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [12], "activation": "tanh"}, "batch": 16},
        "method": {"kind": method, "program": program}, "engine": engine, "dtype": "float64", "device": DEVICE,
        "cluster": {"workers": 6, "compute": {"kind": "cvb", "mean": 1, "cv_machine": 0.6, "cv_task": 0.2}},
        "optimizer": {"kind": "sgd", "lr": 0.1}, "run": {"updates": 40}, "evaluate": {"updates": 40}, **more,
    }  # fmt: skip
    return build_scenario(Document(data, "test"))


def losses(program: str, engine: object, **more: object) -> list[float]:
    return asyncsim.simulate(scenario(program, engine, **more)).updates["loss"].tolist()


@pytest.mark.parametrize("method", ["asgd", "bsp"])
@pytest.mark.parametrize("program", ["test_zeros", "test_backwards", "test_halved"])
def test_all_engines_compute_the_programs_own_kernel(program, method):
    updates = 12 if method == "bsp" else 40
    expected = asyncsim.simulate(scenario(program, ENGINES[0], method, run={"updates": updates}))
    plain = asyncsim.simulate(scenario("local_sgd" if program == "test_backwards" else "replica", ENGINES[0], method,
                                       run={"updates": updates}))  # fmt: skip
    assert abs(expected.parameters - plain.parameters).max() > 1e-3  # a kernel that is replaced would be seen
    for engine in ENGINES[1:]:
        result = asyncsim.simulate(scenario(program, engine, method, run={"updates": updates}))
        assert result.summary["gradients_computed"] >= expected.summary["gradients_computed"]
        assert abs(result.parameters - expected.parameters).max() < 1e-12


def test_a_kernel_of_zeros_leaves_the_parameters_alone():
    for engine in ENGINES:
        result = asyncsim.simulate(scenario("test_zeros", engine))
        assert result.updates["loss"].eq(0).all()
        assert result.summary["status"] == "finished"
        untouched = asyncsim.simulate(scenario("test_zeros", engine, run={"updates": 1}))
        assert (result.parameters == untouched.parameters).all()


@cpu_only
@pytest.mark.parametrize("program", ["test_zeros", "test_backwards", "test_halved"])
def test_fleets_and_resumed_runs_have_the_bits_of_a_run_alone(program, tmp_path):
    alone = [asyncsim.simulate(scenario(program, BATCHED, seed=seed)) for seed in range(3)]
    fleet = asyncsim.simulate_many([scenario(program, BATCHED, seed=seed) for seed in range(3)])
    assert [result.fingerprints for result in fleet] == [result.fingerprints for result in alone]
    interrupt(scenario(program, BATCHED, checkpoint={"updates": 7}), tmp_path / "run", after=24)
    assert asyncsim.resume(tmp_path / "run").fingerprints == alone[0].fingerprints


def test_a_new_function_inherits_no_statement_about_the_old_one():
    class Other(type(gradient)):
        def __call__(self, task, streams, params, worker, step):
            return zeros(task, streams, params, worker, step)

    class Same(type(gradient)):
        """The function is the old one."""

    assert gradient.plain
    assert Same().plain
    assert Same().batched is not None
    assert not Other().plain
    assert Other().batched is None
    assert Backwards(2, 0.1).batched is None
    assert LocalSteps(2, 0.1).call_key == LocalSteps(2, 0.3).call_key  # each job has a rate of its own
    assert Halved(0.5).call_key != Halved(0.25).call_key
