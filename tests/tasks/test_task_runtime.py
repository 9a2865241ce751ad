"""Tasks at work: vectors, gradients, evaluation, batch norm, dropout."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from asyncsim.errors import UserError
from asyncsim.registries import models, tasks
from asyncsim.tasks import Arrays, ClassificationTask, ModelSpec, Quadratic, Signature
from asyncsim.tasks import task as task_module
from asyncsim.tasks.batches import Batches
from asyncsim.tasks.dropout import Dropout
from asyncsim.tasks.models.attention import transformer
from asyncsim.tasks.objective import NextCharacter
from asyncsim.tasks.task import Task

SMALL = [
    {"kind": "digits"},
    {"kind": "digits", "model": "resnet8"},
    {"kind": "digits", "model": {"kind": "wrn", "depth": 10, "width": 1, "dropout": 0.3}},
    {"kind": "pydoc_lm", "batch": 4},
    {"kind": "pydoc_lm", "batch": 4, "model": {"kind": "transformer", "dim": 16, "layers": 1, "dropout": 0.1}},
    {"kind": "click_through", "batch": 4, "samples": 3000},
    {"kind": "quadratic", "noise": 0.1},
]
IDS = ["mlp", "resnet8", "wrn", "char_mlp", "transformer", "deep_fm", "quadratic"]


@pytest.fixture(params=SMALL, ids=IDS)
def task(request) -> Task:
    return tasks.parse(request.param).build(3)


def test_layout_is_torchs_flat_vector(task):
    layout, params = task.layout, task.init()
    assert params.shape == (layout.num_parameters,)
    task.bind(params)
    assert torch.equal(nn.utils.parameters_to_vector(task.module.parameters()), params)
    for parameter, piece, shape in zip(task.parameters, layout.layers, layout.shapes, strict=True):
        assert torch.equal(params[piece].view(shape), parameter)
        assert parameter.data_ptr() == params[piece].data_ptr()
    assert layout.names == tuple(name for name, _ in task.module.named_parameters())
    assert layout.offsets[0] == 0


def test_same_seed_same_everything_and_no_global_generator(task, request, gradient):
    spec = tasks.parse(SMALL[IDS.index(request.node.callspec.id)])
    torch.manual_seed(0)
    before, numpy_before = torch.get_rng_state(), np.random.get_state()[1].copy()
    other = spec.build(3, num_workers=5)
    assert torch.equal(other.init(), task.init())
    for worker, step in ((0, 0), (4, 300), (1, 2)):
        for one, two in zip(task.batch(worker, step), other.batch(worker, step), strict=True):
            assert torch.equal(one, two)
    params = task.init()
    one = gradient(task, params, 1, 5, key=7)
    gradient(other, other.init() * 2, 0, 0, key=1)
    other.evaluate(params)
    assert torch.equal(gradient(other, params, 1, 5, key=7), one)
    assert torch.equal(params, task.init())
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == numpy_before).all()
    if spec.kind != "quadratic":
        assert not torch.equal(spec.build(4).init(), params)


def test_precisions_start_alike(request):
    for spec in map(tasks.parse, SMALL):
        single, double = spec.build(0), spec.build(0, dtype="float64")
        assert double.init().dtype == torch.float64
        assert torch.equal(double.init().float(), single.init())
    with pytest.raises(UserError, match="float32, float64"):
        tasks.parse("digits").build(0, dtype="float16")


def test_batches_are_fresh_and_aligned(task):
    first, again = task.batch(0, 0)[0], task.batch(0, 0)[0]
    assert first.data_ptr() != again.data_ptr()
    assert first.is_contiguous()
    assert first.data_ptr() % 64 == 0
    assert len(first) == task.batch_size


def test_batches_follow_the_sampler(gradient):
    task = tasks.parse({"kind": "digits", "batch": 100, "partition": "iid_shards"}).build(0, num_workers=3)
    seen = torch.cat([task.batch(worker, step)[0].flatten(1) for worker in range(3) for step in range(4)])
    assert len(torch.unique(seen, dim=0)) > 1150
    with pytest.raises(UserError, match="no shard"):
        task.batch(3, 0)
    with pytest.raises(UserError, match=r"2000 samples are more than the training set holds \(1293\)"):
        tasks.parse({"kind": "digits", "batch": 2000}).build(0)


def test_replica_has_a_module_of_its_own(task, gradient):
    params = task.init()
    wanted = gradient(task, params, 0, 1, key=5)
    other = task.replica()
    gradient(other, params * 3, 1, 0, key=9)
    assert torch.equal(gradient(task, params, 0, 1, key=5), wanted)
    assert torch.equal(gradient(other, params, 0, 1, key=5), wanted)
    assert other.splits is task.splits
    task.bind(params)
    other.bind(params * 2)
    assert torch.equal(task.parameters[0].reshape(-1), params[task.layout.layers[0]])


def test_additive_means_a_union_is_a_mean(task, gradient):
    """Mean of two batches' gradients = gradient of their union, exactly when samples don't interact."""
    params = task.init()
    parts = [gradient(task, params, 0, step) for step in range(2)]
    batches = [task.batch(0, step) for step in range(2)]
    task.bind(params)
    task.seed_masks(0)
    loss = task.loss(task.module(torch.cat([x for x, _ in batches])), torch.cat([t for _, t in batches]))
    union = torch.cat([part.reshape(-1) for part in torch.autograd.grad(loss, task.parameters)])
    close = torch.allclose(union, sum(parts) / 2, rtol=1e-4, atol=1e-6)
    assert close == task.additive


@pytest.mark.parametrize(
    "fields",
    [{"model": {"kind": "mlp", "hidden": [3], "activation": "tanh"}}, {"model": {"kind": "resnet8", "width": 1}}],
)
def test_gradient_is_the_numeric_one(fields, gradient):
    task = tasks.parse({"kind": "digits", "batch": 8, **fields}).build(0, dtype="float64")
    params = task.init()
    exact = gradient(task, params)
    inputs, targets = task.batch(0, 0)

    def loss(vector: torch.Tensor) -> float:
        task.bind(vector)
        return task.loss(task.module(inputs), targets).item()

    rng = np.random.default_rng(0)
    for index in rng.choice(len(params), 25, replace=False):
        shift = torch.zeros_like(params)
        shift[index] = 1e-6
        numeric = (loss(params + shift) - loss(params - shift)) / 2e-6
        assert numeric == pytest.approx(exact[index].item(), rel=1e-4, abs=1e-6)


@given(
    curvature=st.lists(st.floats(0, 10), min_size=1, max_size=5),
    noise=st.sampled_from([0.0, 0.7]),
    batch=st.integers(1, 4),
    step=st.integers(0, 200),
)
@settings(max_examples=40, deadline=None)
def test_quadratic_gradient_in_closed_form(curvature, noise, batch, step):
    """d/dx (0.5 sum h x^2 + n . x) = h x + n."""
    task = Quadratic(curvature=tuple(curvature), noise=noise, batch=batch, start=2.0).build(0, dtype="float64")
    params = task.init() * 1.5
    task.bind(params)
    inputs, targets = task.batch(1, step)
    (found,) = torch.autograd.grad(task.loss(task.module(inputs), targets), task.parameters)
    h = torch.tensor(curvature, dtype=torch.float64)
    torch.testing.assert_close(found, h * params + inputs.mean(0))
    metrics = task.evaluate(params)
    assert metrics["loss"] == pytest.approx(0.5 * float((h * params**2).sum()))
    assert metrics["distance"] == pytest.approx(3.0 * math.sqrt(len(curvature)))


def test_quadratic_noise_has_the_deviation_it_says():
    task = Quadratic(dim=50, noise=2.0, batch=4).build(0)
    means = torch.stack([task.batch(worker, step)[0].mean(0) for worker in range(4) for step in range(200)])
    assert float(means.std()) == pytest.approx(1.0, abs=0.03)
    assert float(means.mean()) == pytest.approx(0.0, abs=0.03)


def test_evaluation_in_chunks_is_evaluation(task, monkeypatch):
    params = task.init()
    whole = task.evaluate(params, "validation")
    monkeypatch.setattr(task_module, "CHUNK_NUMBERS", 700)
    chunked = task.evaluate(params, "validation")
    assert chunked.keys() == whole.keys() == set(task.metrics)
    for name, value in whole.items():
        assert chunked[name] == pytest.approx(value, rel=1e-5)
    assert task.module.training
    assert all(parameter.grad is None for parameter in task.parameters)


def test_evaluation_is_repeatable_and_by_hand():
    task = tasks.parse("digits").build(0)
    params = task.init()
    assert task.evaluate(params) == task.evaluate(params)
    inputs, targets = task.splits["test"]
    outputs = task.module(inputs)
    expected = nn.functional.cross_entropy(outputs, targets).item()
    assert task.evaluate(params)["loss"] == pytest.approx(expected, rel=1e-6)
    assert task.evaluate(params)["accuracy"] == (outputs.argmax(1) == targets).double().mean().item()


def test_bits_per_character():
    """A model that knows nothing needs log2 V bits."""
    task = tasks.parse("pydoc_lm").build(0)
    measured = task.evaluate(torch.zeros_like(task.init()))
    assert measured["bits_per_char"] == pytest.approx(math.log2(97), rel=1e-6)
    assert measured["loss"] == pytest.approx(math.log(97), rel=1e-6)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_diverged_parameters_give_nan(task, bad):
    params = task.init()
    params[-1] = bad
    measured = task.evaluate(params)
    assert measured.keys() == set(task.metrics)
    assert all(map(math.isnan, measured.values()))
    assert task.module.training


def test_overflow_in_the_model_gives_no_accuracy():
    task = tasks.parse("digits").build(0)
    measured = task.evaluate(torch.linspace(-3e38, 3e38, task.layout.num_parameters))
    assert not math.isfinite(measured["loss"])
    assert math.isnan(measured["accuracy"])


def test_unknown_splits():
    task = tasks.parse({"kind": "digits", "validation": 0}).build(0)
    with pytest.raises(UserError, match=r"set `task.validation` above 0"):
        task.evaluate(task.init(), "validation")
    with pytest.raises(UserError, match="did you mean `test`"):
        task.evaluate(task.init(), "tset")


class TestBatchNorm:
    """A gradient uses its batch's statistics; evaluation uses what ``batch_norm`` says."""

    def build(self, batch_norm: str = "recalibrate") -> Task:
        return tasks.parse({"kind": "digits", "model": "resnet8", "batch_norm": batch_norm}).build(0)

    def test_statistics_are_those_of_the_last_batch(self, gradient):
        task = self.build()
        params = task.init()
        gradient(task, params, 0, 0)
        gradient(task, params, 1, 7)
        norm = task.module[1]
        inputs = task.module[0](task.batch(1, 7)[0]).detach()
        wanted = torch.cat([inputs.mean((0, 2, 3)), inputs.transpose(0, 1).flatten(1).var(1)])
        found = task.read_statistics()
        torch.testing.assert_close(found[: 2 * norm.num_features], wanted, rtol=1e-4, atol=1e-6)
        assert found.shape == (task.statistics_size,)

    def test_gradient_does_not_depend_on_statistics(self, gradient):
        task = self.build()
        params = task.init()
        before = gradient(task, params)
        task.load_statistics(torch.full((task.statistics_size,), 5.0))
        assert torch.equal(gradient(task, params), before)

    def test_recalibration_is_a_mean_over_training_batches(self):
        task = self.build()
        params = task.init()
        one = task.recalibrate(params)
        task.bind(params * 2)
        assert torch.equal(task.recalibrate(params), one)
        every = []
        for inputs in task.source.calibration():
            task.module(inputs)
            every.append(task.read_statistics())
        torch.testing.assert_close(torch.stack(every).mean(0), one)
        assert task.evaluate(params) == task.evaluate(params, statistics=one)

    def test_running_average_of_arrivals(self, gradient):
        """running <- 0.9 running + 0.1 arrived, from mean 0 and variance 1: what one PyTorch layer would keep."""
        task = self.build("running")
        params = task.init()
        running = task.init_statistics()
        plain = nn.BatchNorm2d(task.module[1].num_features)
        for step in range(3):
            gradient(task, params, 0, step)
            running = task.average_statistics(running, task.read_statistics())
            plain(task.module[0](task.batch(0, step)[0]).detach())
        features = plain.num_features
        torch.testing.assert_close(running[:features], plain.running_mean, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(running[features : 2 * features], plain.running_var, rtol=1e-4, atol=1e-6)
        assert task.evaluate(params, statistics=running) != task.evaluate(params)
        assert task.evaluate(params) == task.evaluate(params, statistics=task.init_statistics())
        assert task.evaluate(params) != self.build().evaluate(params)

    def test_without_batch_norm_there_is_nothing(self):
        task = tasks.parse("digits").build(0)
        assert task.statistics_size == 0
        assert task.read_statistics() is None
        assert task.init_statistics() is None


class TestDropout:
    def test_masks_are_a_function_of_the_key(self, gradient):
        task = tasks.parse(SMALL[2]).build(0)
        assert task.has_masks
        assert not task.additive
        params = task.init()
        one = gradient(task, params, key=2**64 - 1)
        assert not torch.equal(gradient(task, params, key=1), one)
        assert torch.equal(gradient(task, params, key=2**64 - 1), one)

    def test_share_and_scale(self):
        layer = Dropout(0.25)
        layer.generator = torch.Generator().manual_seed(0)
        out = layer(torch.ones(100_000))
        assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
        assert float(out.mean()) == pytest.approx(1.0, abs=0.01)

    def test_identity(self):
        x = torch.randn(5)
        assert Dropout(0.0)(x) is x
        assert Dropout(0.5).eval()(x) is x
        with pytest.raises(RuntimeError, match="no generator"):
            Dropout(0.5)(x)


def test_transformer_cannot_see_the_future():
    module = transformer(11, 8, 2, 16, 2, 0.0).eval()
    one = torch.randint(11, (1, 8), generator=torch.Generator().manual_seed(0))
    two = one.clone()
    two[0, 5] = (two[0, 5] + 1) % 11
    torch.testing.assert_close(module(one)[0, :5], module(two)[0, :5])
    assert not torch.allclose(module(one)[0, 5:], module(two)[0, 5:])
    assert NextCharacter().loss(module(one), two).dim() == 0


# A user's own ------------------------------------------------------------------------------------------------------------


class Blobs(ClassificationTask):
    spread: float = 0.2
    shape: ClassVar = (2,)
    classes: ClassVar = 3

    def arrays(self) -> Arrays:
        rng = np.random.default_rng(0)
        y = np.arange(300) % 3
        X = np.stack([np.cos(2 * y), np.sin(2 * y)], 1) + self.spread * rng.standard_normal((300, 2))
        return Arrays(train=(X[:240], y[:240]), test=(X[240:], y[240:]))


class LinearMap(ModelSpec):
    def module(self, signature: Signature) -> nn.Module:
        return nn.Linear(signature.inputs[0], signature.outputs)


@pytest.fixture
def _registered():
    """As the decorators would, but other tests must not see them."""
    tasks.register("blobs")(Blobs)
    models.register("linear_map")(LinearMap)
    yield
    del tasks._classes["blobs"], models._classes["linear_map"]


@pytest.mark.usefixtures("_registered")
def test_a_users_task_by_name(train):
    spec = tasks.parse({"kind": "blobs", "spread": 0.1, "model": "linear_map", "batch": 16, "partition": "iid_shards"})
    assert spec.num_parameters() == 9
    task = spec.build(0, num_workers=2)
    assert task.evaluate(train(task, 200, 0.3))["accuracy"] > 0.95


def test_a_users_mistakes():
    class Wrong(Blobs):
        classes: ClassVar = 2

    with pytest.raises(UserError, match="labels run from 0 to 2; 0 to 1 allowed"):
        Wrong().build(0)

    class Flat(Blobs):
        shape: ClassVar = (3,)

    with pytest.raises(UserError, match=r"samples have shape \(2,\), expected \(3,\)"):
        Flat().build(0)


def blobs() -> Arrays:
    return Blobs().arrays()


def test_a_notebooks_module(train):
    arrays = blobs()
    module = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), Dropout(0.1), nn.Linear(8, 3))
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    task = Task.from_module(module, arrays.train, arrays.test, validation=arrays.test, batch=16)
    assert torch.equal(task.init(), before)
    assert isinstance(task.source, Batches)
    assert task.evaluate(train(task, 300, 0.1))["accuracy"] > 0.95
    assert task.evaluate(task.init(), "validation") == task.evaluate(task.init(), "test")
    assert torch.equal(nn.utils.parameters_to_vector(module.parameters()), before)


def test_regression_with_a_loss_of_ones_own(train):
    X = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    y = X @ torch.tensor([[1.0], [2.0], [3.0]])
    task = Task.from_module(nn.Linear(3, 1), (X, y), (X, y), loss=nn.functional.mse_loss, dtype="float64")
    assert task.metrics == ("loss",)
    assert task.evaluate(train(task, 300, 0.05))["loss"] < 1e-6


def test_modules_that_cannot_be_used():
    arrays = blobs()
    for module, message in [
        (nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5)), "asyncsim.tasks.dropout.Dropout"),
        (nn.Flatten(), "no parameters"),
        (nn.Linear(2, 3).requires_grad_(False), "no parameters to train .all are frozen"),
    ]:
        with pytest.raises(UserError, match=message):
            Task.from_module(module, arrays.train, arrays.test)


# Accuracies: wide tolerances ---------------------------------------------------------------------------------------------


def test_digits_are_learned(train):
    task = tasks.parse("digits").build(0)
    assert task.evaluate(train(task, 2000, 0.1))["accuracy"] > 0.96


def test_characters_are_learned(train):
    task = tasks.parse("pydoc_lm").build(0)
    assert task.evaluate(train(task, 300, 0.05))["bits_per_char"] < 4.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "lr", "accuracy"),
    [
        ({"kind": "mnist5k"}, 0.05, 0.93),
        ({"kind": "mnist5k", "model": "cnn"}, 0.02, 0.94),
        ({"kind": "mnist5k", "model": "resnet8"}, 0.1, 0.955),
        ({"kind": "mnistm5k"}, 0.1, 0.75),
    ],
    ids=["mlp", "cnn", "resnet8", "photos"],
)
def test_mnist_is_learned(train, fields, lr, accuracy):
    task = tasks.parse(fields).build(0)
    assert task.evaluate(train(task, 1500, lr))["accuracy"] > accuracy


@pytest.mark.slow
def test_a_transformer_learns(train):
    task = tasks.parse({"kind": "pydoc_lm", "model": "transformer", "batch": 8}).build(0)
    assert task.evaluate(train(task, 500, 0.02))["bits_per_char"] < 3.9
