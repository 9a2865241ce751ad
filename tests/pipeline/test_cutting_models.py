"""Every model that is an nn.Sequential can be cut: the built-in ones, and the user's."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import asyncsim
from asyncsim.errors import UserError
from asyncsim.registries import models, tasks
from asyncsim.scenario import Scenario
from asyncsim.scenario.model_cut import Stages
from asyncsim.tasks import ModelSpec
from asyncsim.tasks.cutting import Layer, balanced, layers_of


@pytest.fixture(scope="module", autouse=True)
def plugins():
    """Two models of a user: one that can be cut, with a block inside, and one that cannot."""

    @models.register("nested")
    class Nested(ModelSpec):
        def module(self, signature):
            block = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16))
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), block, nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 10))

    @models.register("lump")
    class Lump(ModelSpec):
        def module(self, signature):
            return nn.Bilinear(2, 2, 2)

    yield
    for name in ("nested", "lump"):
        del models._classes[name]


def scenario(model, count, **more):
    return Scenario.model_validate(
        {"task": {"kind": "digits", "model": model}, "cluster": {"workers": count}, "stages": {"count": count} | more,
         "method": "pipedream", "run": {"updates": 12}}
    )  # fmt: skip


def test_a_block_stays_together():
    layers = layers_of(models["nested"](), tasks["digits"]().signature)
    assert [layer.parameters for layer in layers] == [0, 64 * 16 + 16, 2 * (16 * 16 + 16), 0, 32, 170]
    case = scenario("nested", 4, split="layers")
    assert case.cut().layers == (2, 2, 1, 1)
    assert case.cut().boundaries == (16, 16, 16)
    result = asyncsim.simulate(case)
    assert torch.from_numpy(result.parameters).isfinite().all()


def test_what_cannot_be_cut_is_refused():
    with pytest.raises(ValueError, match="model `lump` is a Bilinear; only an nn"):
        scenario("lump", 2)
    with pytest.raises(ValueError, match="5 stages need 5 layers with parameters at least; this model has 4"):
        scenario("nested", 5)


MODELS = ["mlp", "cnn", "resnet8", "resnet20", "resnet56", "wrn_16_4"]


@pytest.mark.parametrize("by", ["operations", "parameters", "layers"])
@pytest.mark.parametrize("name", MODELS)
def test_built_in_models(name, by):
    """All layers and parameters are placed, and no stage is without any."""
    task = tasks["cifar10"](model=name)
    layers = layers_of(task.model, task.signature)
    assert sum(layer.parameters for layer in layers) == task.num_parameters()
    for count in range(2, min(6, sum(layer.parameters > 0 for layer in layers)) + 1):
        cut = Stages(count=count, split=by).cut(task)
        assert sum(cut.layers) == len(layers)
        assert sum(cut.parameters) == task.num_parameters()
        assert min(cut.parameters) > 0
        assert sum(cut.shares) == pytest.approx(1)


def test_balanced_is_the_best_of_all_cuts():
    """Against every way to cut, for unequal costs and layers without parameters."""
    costs = [3, 1, 4, 1, 5, 9, 2, 6]
    layers = tuple(Layer(str(i), 1 if i not in (3, 6) else 0, float(cost), 1) for i, cost in enumerate(costs))
    starts = [0, 1, 2, 4, 5, 7]

    def largest(cuts):
        bounds = [0, *cuts, len(costs)]
        return max(sum(costs[a:b]) for a, b in itertools.pairwise(bounds))

    for count in (2, 3, 4, 5, 6):
        found = balanced(layers, count, "operations")
        bounds = [sum(found[:k]) for k in range(1, count)]
        best = min(largest(cuts) for cuts in itertools.combinations(starts[1:], count - 1))
        assert largest(bounds) == best
    with pytest.raises(ValueError, match="7 stages"):
        balanced(layers, 7, "operations")


def test_an_error_names_the_section(tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text("task: digits\ncluster: {workers: 5}\nstages: 5\nmethod: fdg\nrun: {updates: 5}\n")
    with pytest.raises(UserError, match=r"s.yaml:3: stages: 5 stages need 5 layers"):
        asyncsim.load_scenario(file)
