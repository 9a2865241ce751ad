"""The graphed engine: one gradient in fixed buffers, a CUDA graph where there is CUDA; against the serial engine."""

from __future__ import annotations

import pytest
import torch
from on_device import DEVICE

import asyncsim
from asyncsim.engine.graphed import GraphedEngine
from asyncsim.engine.kernels import LocalSteps, batch_gradient, gradient
from asyncsim.engine.serial import SerialEngine
from asyncsim.registries import tasks
from asyncsim.scenario import Document, build_scenario
from asyncsim.streams import Streams
from asyncsim.tasks.task import Task

MLP = {"kind": "digits", "model": {"kind": "mlp", "hidden": [12]}, "batch": 6}
RESNET = {"kind": "mnist5k", "model": "resnet8", "batch": 8}
TRANSFORMER = {"kind": "pydoc_lm", "model": {"kind": "transformer", "dim": 16, "context": 12, "dropout": 0.2}, "batch": 4}
TASKS = pytest.mark.parametrize("settings", [MLP, RESNET, TRANSFORMER], ids=["mlp", "batch norm", "dropout"])
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA graphs need a CUDA device")
DEVICES = pytest.mark.parametrize(
    "device", [DEVICE, pytest.param("cuda", marks=NEEDS_CUDA)], ids=["device of the suite", "cuda"]
)  # fmt: skip


def engines(settings: dict, device: str) -> tuple[Task, SerialEngine, GraphedEngine]:
    task, other = (tasks.parse(settings).build(0, device, "float32", 4) for _ in range(2))
    return task, SerialEngine(task, Streams(0)), GraphedEngine(other, Streams(0))


@DEVICES
@TASKS
def test_a_replay_has_the_serial_bits(settings, device):
    """Gradient, loss and batch statistics at several snapshots and batches, with an evaluation in between."""
    task, serial, graphed = engines(settings, device)
    for index, (worker, step) in enumerate([(0, 0), (1, 0), (0, 1), (3, 7)]):
        params = task.init() * (1.0 + 0.1 * index)
        one, other = (engine.submit(gradient, params, worker, step).result() for engine in (serial, graphed))
        assert torch.equal(one.gradient, other.gradient)
        assert torch.equal(one.loss, other.loss)
        assert (one.statistics is None) == (other.statistics is None)
        assert one.statistics is None or torch.equal(one.statistics, other.statistics)
        graphed.task.evaluate(params * 2)


@DEVICES
def test_a_result_outlives_the_next_replay(device):
    """Results are copies: the buffers are written again by every replay."""
    task, _, graphed = engines(RESNET, device)
    first = graphed.submit(gradient, task.init(), 0, 0).result()
    parts = first.gradient, first.loss, first.statistics
    kept = [part.clone() for part in parts]
    graphed.submit(gradient, task.init() * 2, 1, 3).result()
    assert all(torch.equal(part, copy) for part, copy in zip(parts, kept, strict=True))


class Replayed:
    """In the place of a CUDA graph: its replay computes in the recorded tensors, as a graph's does."""

    def __init__(self, engine: GraphedEngine) -> None:
        self.engine = engine
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        fresh = batch_gradient(self.engine.task, *self.engine._buffers)
        for recorded, value in zip(self.engine._recorded[:2], fresh[:2], strict=True):
            recorded.copy_(value)


def test_what_a_graph_has_recorded_is_handed_out_in_copies():
    """The part after the replay, without CUDA: all that a gradient has, and nothing that the next replay writes to."""
    task, serial, graphed = engines(MLP, "cpu")
    first = graphed.submit(gradient, task.init(), 0, 0).result()
    graphed._recorded = batch_gradient(graphed.task, *graphed._buffers)
    graphed._graph = Replayed(graphed)
    for worker, step in ((0, 0), (1, 2)):
        one, other = (engine.submit(gradient, task.init(), worker, step).result() for engine in (serial, graphed))
        assert torch.equal(one.gradient, other.gradient)
        assert torch.equal(one.loss, other.loss)
        assert other.gradient is not graphed._recorded.gradient
        if step == 0:
            assert torch.equal(other.gradient, first.gradient)
    assert graphed._graph.replays == 2


def test_local_steps_are_left_to_the_serial_way():
    task, serial, graphed = engines(MLP, DEVICE)
    one, other = (engine.submit(LocalSteps(3, 0.1), task.init(), 0, 1).result() for engine in (serial, graphed))
    assert torch.equal(one.gradient, other.gradient)
    assert graphed.computed == 1


@DEVICES
@TASKS
def test_a_run_has_the_serial_trajectory(settings, device):
    def run(engine: str) -> asyncsim.Result:
        data = {
            "task": settings, "method": "gap_aware", "engine": engine, "cluster": {"workers": 4}, "device": device,
            "optimizer": {"kind": "sgd", "lr": 0.02, "momentum": 0.9}, "run": {"updates": 16}, "evaluate": {"updates": 8},
        }  # fmt: skip
        return asyncsim.simulate(build_scenario(Document(data, "test")))

    graphed = run("graphed")
    assert graphed.fingerprints == run("serial").fingerprints
    kernel = "loop" if settings is TRANSFORMER else "graph" if device.startswith("cuda") else "static"
    assert graphed.manifest["engine"]["kernel"] == kernel
