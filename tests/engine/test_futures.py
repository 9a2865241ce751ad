"""The life of a future: pending, done, released or cancelled; and what an engine has computed at each point."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asyncsim.engine import kernels
from asyncsim.engine.serial import SerialEngine
from asyncsim.messages import Gradient
from asyncsim.registries import tasks
from asyncsim.streams import Streams

PARAMS = torch.tensor([1.0, 2.0])


class Counted:
    """A kernel that says when it is called: gradient = params * (step + 1), loss = worker."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, task: Any, streams: Any, params: torch.Tensor, worker: int, step: int) -> Gradient:
        self.calls.append((worker, step))
        return Gradient(params * (step + 1), torch.tensor(float(worker)), None)


@pytest.fixture
def kernel() -> Counted:
    return Counted()


@pytest.fixture
def engine() -> SerialEngine:
    return SerialEngine(SimpleNamespace(additive=True), Streams(0))


def test_submitting_computes_nothing(engine, kernel):
    """Pending: determined, holding its snapshot (the very tensor), no kernel called, loss NaN."""
    future = engine.submit(kernel, PARAMS, 3, 1)
    assert future.pending
    assert future.params is PARAMS
    assert kernel.calls == []
    assert engine.computed == 0
    assert math.isnan(float(future))


def test_a_result_is_computed_once(engine, kernel):
    """The same object twice, one call, and the snapshot is let go."""
    future = engine.submit(kernel, PARAMS, 3, 1)
    first = future.result()
    assert future.result() is first
    assert kernel.calls == [(3, 1)]
    assert engine.computed == 1
    assert not future.pending
    assert future.params is None
    assert torch.equal(first.gradient, torch.tensor([2.0, 4.0]))
    assert float(future) == 3.0


def test_a_cancelled_future_is_never_computed(engine, kernel):
    """It is counted once, refuses to give a result, and its loss stays NaN."""
    future = engine.submit(kernel, PARAMS, 0, 0)
    future.cancel()
    future.cancel()
    assert engine.cancelled == 1
    assert not future.pending
    assert math.isnan(float(future))
    with pytest.raises(RuntimeError, match="cancelled or released"):
        future.result()
    assert kernel.calls == []
    assert engine.computed == 0


def test_cancelling_what_is_done_undoes_nothing(engine, kernel):
    """A gradient that was computed and then is not needed counts as computed, not as cancelled; its loss is known."""
    future = engine.submit(kernel, PARAMS, 5, 0)
    future.result()
    future.cancel()
    assert (engine.computed, engine.cancelled) == (1, 0)
    assert float(future) == 5.0


def test_a_released_future_keeps_its_loss_alone(engine, kernel):
    """Gradient and snapshot are gone, so a long run holds no tensors of the past."""
    future = engine.submit(kernel, PARAMS, 5, 0)
    future.result()
    future.release()
    assert float(future) == 5.0
    assert not future.pending
    with pytest.raises(RuntimeError):
        future.result()


def test_the_order_of_asking_is_the_order_of_computing(engine, kernel):
    """Nothing runs ahead in the serial engine: only what is asked for, when it is."""
    futures = [engine.submit(kernel, PARAMS, worker, 0) for worker in range(4)]
    futures[2].result()
    futures[0].result()
    assert kernel.calls == [(2, 0), (0, 0)]


def test_a_mean_is_as_late_as_its_parts(engine, kernel):
    """Making it computes nothing. Asked, it computes the parts that are still pending, once each; the mean of (2, 4) and (4, 8)
    and (6, 12) is (4, 8), its loss the mean of 0, 1, 2."""
    parts = [engine.submit(kernel, PARAMS, worker, worker + 1) for worker in range(3)]
    parts[1].result()
    mean = engine.mean(parts)
    assert mean.pending
    assert kernel.calls == [(1, 2)]
    assert torch.equal(mean.result().gradient, torch.tensor([3.0, 6.0]))
    assert mean.result() is mean.result()
    assert kernel.calls == [(1, 2), (0, 1), (2, 3)]
    assert engine.computed == 3
    assert float(mean) == 1.0
    assert [float(part) for part in parts] == [0.0, 1.0, 2.0]


def test_a_mean_does_not_write_to_its_parts(engine, kernel):
    """The sum is a tensor of its own: a part that was already handed out keeps its values."""
    parts = [engine.submit(kernel, PARAMS, 0, step) for step in range(3)]
    before = parts[0].result().gradient.clone()
    engine.mean(parts).result()
    assert torch.equal(parts[0].result().gradient, before)


def test_releasing_a_mean_releases_its_parts(engine, kernel):
    """Whoever lets go of the whole lets go of everything, losses excepted."""
    parts = [engine.submit(kernel, PARAMS, worker, 0) for worker in range(2)]
    mean = engine.mean(parts)
    mean.result()
    mean.release()
    assert mean.averaged is None
    assert [float(part) for part in parts] == [0.0, 1.0]
    for part in parts:
        with pytest.raises(RuntimeError):
            part.result()


def test_parts_of_a_union_have_the_loss_of_the_whole():
    """Where the mean is one pass, nobody knows the loss of one batch: each part reports that of the union, and is released
    with it. All three count as computed."""
    task = tasks.parse({"kind": "digits", "model": "softmax", "batch": 4}).build(0, "cpu", "float64", 3)
    engine, params = SerialEngine(task, Streams(0)), task.init()
    parts = [engine.submit(kernels.gradient, params, worker, 0) for worker in range(3)]
    mean = engine.mean(parts)
    result = mean.result()
    mean.release()
    assert engine.computed == 3
    assert [float(part) for part in parts] == [float(result.loss)] * 3
    assert not any(part.pending for part in parts)


def test_an_error_in_a_kernel_reaches_who_asked(engine):
    """It is not swallowed, and asking again raises again."""

    def broken(*_: Any) -> Gradient:
        raise ZeroDivisionError

    future = engine.submit(broken, PARAMS, 0, 0)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            future.result()
