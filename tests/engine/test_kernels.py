"""Kernels against PyTorch's functional autograd, finite differences and plain loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from on_device import DEVICE, SLACK
from torch.nn.functional import cross_entropy

from asyncsim.engine import kernels
from asyncsim.engine.kernels import LocalSteps, gradient, union_gradient
from asyncsim.engine.serial import SerialEngine
from asyncsim.registries import tasks
from asyncsim.streams import Streams
from asyncsim.tasks.task import Task

MLP = {"kind": "digits", "model": {"kind": "mlp", "hidden": [12]}, "batch": 6}
SOFTMAX = {"kind": "digits", "model": "softmax", "batch": 6}
CNN = {"kind": "digits", "model": "cnn", "batch": 6}
TEXT = {"kind": "pydoc_lm", "model": {"kind": "char_mlp", "context": 4, "embedding": 3, "hidden": 5}, "batch": 6}
BATCH_NORM = {"kind": "digits", "model": {"kind": "resnet8"}, "batch": 6}
DROPOUT = {"kind": "pydoc_lm", "batch": 6,
           "model": {"kind": "transformer", "context": 6, "layers": 1, "dim": 8, "heads": 2, "dropout": 0.3}}  # fmt: skip
ADDITIVE = pytest.mark.parametrize("settings", [MLP, SOFTMAX, CNN, TEXT], ids=["mlp", "softmax", "cnn", "text"])
STREAMS = Streams(0)
CLOSE = 1e-12 * SLACK


pytestmark = pytest.mark.usefixtures("one_thread")


def build(settings: dict[str, Any], dtype: str = "float64") -> Task:
    return tasks.parse(settings).build(0, DEVICE, dtype, 4)


def loss_of(task: Task, params: torch.Tensor, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean loss as a function of the flat vector, without the task's own binding."""
    named = dict(task.module.named_parameters())
    pieces = params.split([parameter.numel() for parameter in named.values()])
    shaped = {name: piece.view_as(parameter) for (name, parameter), piece in zip(named.items(), pieces, strict=True)}
    outputs = torch.func.functional_call(task.module, shaped, (inputs,))
    return cross_entropy(outputs.flatten(0, -2), targets.flatten())


@ADDITIVE
def test_gradient_is_that_of_functional_autograd(settings):
    """``torch.func.grad`` of the loss as a pure function of the vector (P,), float64, at parameters away from the start:
    1e-13. The loss that comes with it is the value of that function."""
    task = build(settings)
    params = task.init() * 1.5 + 0.01
    result = gradient(task, STREAMS, params, 2, 5)
    inputs, targets = task.batch(2, 5)
    by_function, value = torch.func.grad_and_value(lambda vector: loss_of(task, vector, inputs, targets))(params)
    torch.testing.assert_close(result.gradient, by_function, rtol=1e-13 * SLACK, atol=1e-13 * SLACK)
    torch.testing.assert_close(result.loss, value, rtol=1e-13 * SLACK, atol=0)
    assert result.gradient.shape == params.shape
    assert not result.gradient.requires_grad
    assert not result.loss.requires_grad
    assert result.statistics is None


@pytest.mark.parametrize("settings", [MLP, CNN, TEXT, BATCH_NORM], ids=["mlp", "cnn", "text", "batch_norm"])
def test_gradient_is_the_slope_of_the_loss(settings):
    """Central differences along five directions d: (L(x + h d) - L(x - h d)) / 2h = g . d to about h^2, h = 1e-6, float64;
    batch norm with the statistics of the batch, as in training."""
    task = build(settings)
    params = task.init()
    slope = gradient(task, STREAMS, params, 0, 0).gradient
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        direction = torch.randn(len(params), generator=generator, dtype=torch.float64).to(DEVICE)
        direction /= direction.norm()
        up, down = (float(gradient(task, STREAMS, params + sign * 1e-6 * direction, 0, 0).loss) for sign in (1, -1))
        assert (up - down) / 2e-6 == pytest.approx(float(slope @ direction), rel=1e-5, abs=1e-8)


def test_gradient_of_the_quadratic_by_hand():
    """0.5 sum h x^2 + n . x has the gradient h x + n: without noise (2 * 3, 0.5 * -4) and the loss 0.5 (2 * 9 + 0.5 * 16) =
    13."""
    task = build({"kind": "quadratic", "curvature": [2.0, 0.5], "start": [3.0, -4.0]})
    result = gradient(task, STREAMS, task.init(), 0, 0)
    expected = torch.tensor([6.0, -2.0], dtype=torch.float64, device=DEVICE)
    assert torch.equal(result.gradient, expected)
    assert float(result.loss) == 13.0
    noisy = build({"kind": "quadratic", "curvature": [2.0, 0.5], "start": [3.0, -4.0], "noise": 1.0})
    noise = noisy.batch(1, 3)[0][0]
    torch.testing.assert_close(gradient(noisy, STREAMS, noisy.init(), 1, 3).gradient, expected + noise)


@pytest.mark.parametrize("settings", [MLP, CNN, BATCH_NORM, DROPOUT], ids=["mlp", "cnn", "batch_norm", "dropout"])
def test_a_gradient_depends_on_its_arguments_alone(settings):
    """float32, bit for bit: the same whatever was computed or evaluated before on the same module; parameters are not written
    to."""
    task = build(settings, "float32")
    params = task.init()
    copy = params.clone()
    first = gradient(task, STREAMS, params, 1, 2)
    gradient(task, STREAMS, params * 3, 0, 7)
    task.evaluate(params * 2)
    again = gradient(task, STREAMS, params, 1, 2)
    assert torch.equal(first.gradient, again.gradient)
    assert torch.equal(first.loss, again.loss)
    assert torch.equal(params, copy)
    assert not torch.equal(first.gradient, gradient(task, STREAMS, params, 1, 3).gradient)


def test_batch_norm_statistics_are_those_of_the_batch():
    """What comes with a gradient are the means and variances of its own batch: after the first convolution they can be had from
    the convolution's output on that batch; a second gradient between changes nothing."""
    task = build(BATCH_NORM)
    convolution = next(layer for layer in task.module.modules() if isinstance(layer, torch.nn.Conv2d))
    seen: list[torch.Tensor] = []
    hook = convolution.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    statistics = gradient(task, STREAMS, task.init(), 0, 0).statistics
    hook.remove()
    other = gradient(task, STREAMS, task.init(), 0, 1).statistics
    channels = seen[0].shape[1]
    torch.testing.assert_close(statistics[:channels], seen[0].mean((0, 2, 3)), rtol=CLOSE, atol=CLOSE)
    torch.testing.assert_close(statistics[channels : 2 * channels], seen[0].var((0, 2, 3)), rtol=CLOSE, atol=CLOSE)
    assert not torch.equal(statistics, other)


# Means.

MEMBERS = [(0, 0), (1, 0), (2, 4), (3, 1), (0, 1), (1, 9), (2, 2)]


@pytest.mark.parametrize("most", [1024, 18, 6, 1], ids=["one_pass", "3_3_1", "one_each", "less_than_a_batch"])
@ADDITIVE
def test_the_gradient_of_the_union_is_the_mean_of_the_gradients(settings, most):
    """Seven batches of six: the gradient of the mean loss over the 42 samples is the mean of the seven gradients, in one pass
    or in several of unequal size: 1e-12 in float64. So is the loss."""
    task = build(settings)
    params = task.init()
    each = [gradient(task, STREAMS, params, *member) for member in MEMBERS]
    union = union_gradient(task, params, MEMBERS, most)
    torch.testing.assert_close(union.gradient, torch.stack([one.gradient for one in each]).mean(0), rtol=CLOSE, atol=CLOSE)
    torch.testing.assert_close(union.loss, torch.stack([one.loss for one in each]).mean(), rtol=CLOSE, atol=0)


def means(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch, kernel: Any = gradient) -> tuple[int, torch.Tensor, list]:
    """(number of union passes, mean of four futures, the four gradients) by a serial engine."""
    task = build(settings)
    engine, params, passes = SerialEngine(task, STREAMS), task.init(), []
    union = kernels.union_gradient
    monkeypatch.setattr(kernels, "union_gradient", lambda *arguments: (passes.append(1), union(*arguments))[1])
    mean = engine.mean([engine.submit(kernel, params, *member) for member in MEMBERS[:4]]).result().gradient
    assert engine.computed == 4
    return len(passes), mean, [kernel(task, STREAMS, params, *member).gradient for member in MEMBERS[:4]]


@ADDITIVE
def test_additive_tasks_take_the_union(settings, monkeypatch):
    """Where samples do not interact the mean is one pass."""
    passes, mean, each = means(settings, monkeypatch)
    assert passes == 1
    torch.testing.assert_close(mean, sum(each) / 4, rtol=CLOSE, atol=CLOSE)


@pytest.mark.parametrize("settings", [BATCH_NORM, DROPOUT], ids=["batch_norm", "dropout"])
def test_batch_norm_and_dropout_do_not_take_the_union(settings, monkeypatch):
    """Batch norm of a union is another function, and masks belong to (worker, step): the mean is that of the gradients one by
    one, bit for bit, and the union would not be it."""
    passes, mean, each = means(settings, monkeypatch)
    assert passes == 0
    assert torch.equal(mean, (each[0] + each[1] + each[2] + each[3]) / 4)
    task = build(settings)
    wrong = union_gradient(task, task.init(), MEMBERS[:4]).gradient
    assert (wrong - mean).abs().max() > 1e-6


def test_local_steps_do_not_take_the_union(monkeypatch):
    """Pseudo-gradients are averaged one by one."""
    passes, mean, each = means(MLP, monkeypatch, LocalSteps(2, 0.1))
    assert passes == 0
    assert torch.equal(mean, (each[0] + each[1] + each[2] + each[3]) / 4)


def test_different_snapshots_do_not_take_the_union(monkeypatch):
    """Two gradients on two versions: their mean is not a gradient at any one point."""
    task = build(MLP)
    engine, params = SerialEngine(task, STREAMS), task.init()
    monkeypatch.setattr(kernels, "union_gradient", lambda *_: pytest.fail("took the union"))
    futures = [engine.submit(gradient, params, 0, 0), engine.submit(gradient, params * 1.1, 1, 0)]
    mean = engine.mean(futures).result().gradient
    first, second = (gradient(task, STREAMS, at, worker, 0).gradient for at, worker in ((params, 0), (params * 1.1, 1)))
    assert torch.equal(mean, (first + second) / 2)


# Local steps.


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize(("steps", "round_"), [(1, 0), (4, 0), (4, 3)])
def test_local_steps_are_a_plain_loop(steps, round_, momentum):
    """``torch.optim.SGD`` on the task's module for the batches ``round * steps ...``: the pseudo-gradient is start minus end,
    to 1e-14 in float64, the loss the mean over the steps. Momentum starts anew: round 3 does not know of rounds 0 to 2."""
    task, reference = build(MLP), build(MLP)
    start = task.init()
    result = LocalSteps(steps, 0.1, momentum)(task, STREAMS, start, 2, round_)
    optimiser = torch.optim.SGD(reference.module.parameters(), lr=0.1, momentum=momentum)
    losses = []
    for step in range(round_ * steps, (round_ + 1) * steps):
        inputs, targets = reference.batch(2, step)
        optimiser.zero_grad()
        loss = cross_entropy(reference.module(inputs), targets)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    end = torch.cat([parameter.detach().reshape(-1) for parameter in reference.module.parameters()])
    torch.testing.assert_close(result.gradient, start - end, rtol=0, atol=1e-14 * SLACK)
    assert float(result.loss) == pytest.approx(sum(losses) / steps, rel=1e-14 * SLACK)
    assert result.gradient.norm() > 0.01


def test_local_steps_at_rate_zero_stay():
    """lr 0: the difference is exactly 0, although gradients were computed."""
    task = build(MLP)
    result = LocalSteps(3, 0.0, 0.9)(task, STREAMS, task.init(), 0, 0)
    assert torch.equal(result.gradient, torch.zeros_like(result.gradient))
    assert float(result.loss) > 1.0


# Dropout.


def test_masks_are_a_function_of_worker_and_step(monkeypatch):
    """With one and the same batch for everybody, gradients differ between workers, steps and seeds by their masks alone, and that
    of (1, 2) is the same first, later, and on a replica of the task."""
    task = build(DROPOUT)
    batch = task.batch(0, 0)
    monkeypatch.setattr(Task, "batch", lambda *_: batch)
    params = task.init()
    first = gradient(task, STREAMS, params, 1, 2).gradient
    others = [gradient(task, STREAMS, params, *key).gradient for key in ((2, 1), (1, 3), (2, 2), (12, 0))]
    others.append(gradient(task, Streams(1), params, 1, 2).gradient)
    assert torch.equal(gradient(task, STREAMS, params, 1, 2).gradient, first)
    assert torch.equal(gradient(task.replica(), STREAMS, params, 1, 2).gradient, first)
    assert not any(torch.equal(other, first) for other in others)
    without = build(DROPOUT | {"model": DROPOUT["model"] | {"dropout": 0.0}})
    key = gradient(without, STREAMS, params, 1, 2).gradient
    assert torch.equal(key, gradient(without, STREAMS, params, 2, 1).gradient)


def test_every_local_step_has_its_own_mask(monkeypatch):
    """Three local steps on one constant batch at a rate of 1e-9 (so the parameters hardly move): the pseudo-gradient is the
    sum of three gradients with the masks of steps 3, 4, 5, not three times the first."""
    task = build(DROPOUT)
    batch = task.batch(0, 0)
    monkeypatch.setattr(Task, "batch", lambda *_: batch)
    params = task.init()
    moved = LocalSteps(3, 1e-9)(task, STREAMS, params, 0, 1).gradient / 1e-9
    each = [gradient(task, STREAMS, params, 0, step).gradient for step in (3, 4, 5)]
    torch.testing.assert_close(moved, sum(each), rtol=1e-5, atol=1e-5)
    assert (moved - 3 * each[0]).abs().max() > 1e-3
