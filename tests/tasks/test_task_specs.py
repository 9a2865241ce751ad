"""Settings: sizes without torch, errors at validation."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from pydantic import BaseModel, ValidationError

from asyncsim.registries import models, tasks
from asyncsim.registry import json_schema
from asyncsim.tasks import AnyModel, AnyPartition, Quadratic, TaskSpec
from asyncsim.tasks.data_task import DataTask

REQUIRED = {"npz": {"file": "my.npz", "shape": [3, 12, 20], "classes": 4}}
NAMED = [name for name in tasks.names() if name not in ("experiment", "python")]
"""The tasks that are settings alone; those made of Python objects have tests of their own (test_experiment, test_python_file)."""


def test_validation_and_sizes_need_no_heavy_package():
    program = (
        "import sys; from asyncsim.tasks.spec import tasks; "
        "sizes = [tasks.parse({'kind': kind, **more}).num_parameters() for kind, more in %r]; "
        "print([name for name in ('torch', 'pandas', 'sklearn', 'mlxtend', 'PIL') if name in sys.modules])"
    ) % [(name, REQUIRED.get(name, {})) for name in NAMED]
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def fitting() -> list[tuple[str, str]]:
    texts = ["char_mlp", "transformer"]
    kinds = {"quadratic": [], "temporal_graph": [], "click_through": ["deep_fm"], "token_lm": texts, "pydoc_lm": texts}
    images = [name for name, cls in models if "image" in cls.takes]
    return [(task, model) for task in NAMED for model in kinds.get(task, images)]


@pytest.mark.parametrize(("kind", "model"), fitting())
def test_number_of_parameters_in_closed_form(kind, model):
    spec = tasks.parse({"kind": kind, "model": model, **REQUIRED.get(kind, {})})
    assert isinstance(spec, DataTask)
    with torch.device("meta"):
        module = spec.model.module(spec.signature)
    assert spec.num_parameters() == sum(parameter.numel() for parameter in module.parameters())
    assert spec.layer_shapes() == tuple(tuple(parameter.shape) for parameter in module.parameters())


@pytest.mark.parametrize(
    ("task", "model", "size"),
    [
        ("cifar10", "resnet20", 269_722),
        ("cifar10", "resnet56", 853_018),
        ("cifar10", "wrn_16_4", 2_748_890),
        ("mnist5k", "resnet8", 19_714),
        ("mnistm5k", "resnet8", 19_858),
        ("mnistm5k", {"kind": "resnet8", "width": 16}, 77_850),
        ("mnist5k", "cnn", 11_546),
        ("mnist5k", "mlp", 50_890),
        ("mnist5k", "softmax", 7_850),
        ("digits", "mlp", 4_810),
        ("digits", "softmax", 650),
    ],
)
def test_published_sizes(task, model, size):
    assert tasks.parse({"kind": task, "model": model}).num_parameters() == size


@pytest.mark.parametrize("odd", [(1, 7, 9), (2, 5, 5), (3, 1, 1)])
def test_odd_image_sizes(odd):
    for name, cls in models:
        if "image" in cls.takes:
            spec = tasks.parse({"kind": "npz", "file": "x", "shape": odd, "classes": 3, "model": name})
            module = spec.model.module(spec.signature).eval()
            assert module(torch.zeros(2, *odd)).shape == (2, 3)
            assert spec.num_parameters() == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("shortcut", ["pad", "conv"])
def test_residual_variants(width, shortcut):
    model = {"kind": "resnet", "depth": 14, "width": width, "shortcut": shortcut, "stem_stride": 2}
    spec = tasks.parse({"kind": "digits", "model": model})
    module = spec.model.module(spec.signature)
    assert module(torch.randn(4, 1, 8, 8)).shape == (4, 10)
    assert spec.num_parameters() == sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        ({"kind": "digits", "model": "transformer"}, "takes text inputs, and this task has image inputs"),
        ({"kind": "pydoc_lm", "model": "mlp"}, "models that fit: char_mlp, transformer"),
        ({"kind": "digits", "model": "resnet21"}, "did you mean `resnet20`"),
        ({"kind": "digits", "model": {"kind": "resnet", "depth": 21}}, "6 n + 2"),
        ({"kind": "digits", "model": {"kind": "wrn", "depth": 17}}, "6 n + 4"),
        ({"kind": "pydoc_lm", "model": {"kind": "transformer", "dim": 30}}, "not a multiple of heads"),
        ({"kind": "digits", "batch": 0}, "greater than or equal to 1"),
        ({"kind": "digits", "validation": 1.0}, "less than 1"),
        ({"kind": "digits", "batchs": 3}, "did you mean `batch`"),
        ({"kind": "quadratic", "curvature": [1, 2], "dim": 3}, "2 entries for 3 dimensions"),
        ({"kind": "quadratic", "curvature": []}, "is empty"),
        ({"kind": "npz", "file": "x", "shape": [2, 3], "classes": 2}, "a vector (d,) or an image"),
        ({"kind": "npz", "file": "x", "shape": [9], "classes": 2, "model": "cnn"}, "models that fit: mlp, softmax"),
        ({"kind": "idx", "shape": [3, 28, 28]}, "one channel"),
    ],
)
def test_refused_with_a_reason(scenario, message):
    with pytest.raises(ValidationError) as error:
        tasks.parse(scenario)
    assert message in str(error.value)


def test_settings_are_plain_data_and_come_back():
    for name in NAMED:
        spec = tasks.parse({"kind": name, **REQUIRED.get(name, {})})
        assert isinstance(spec, TaskSpec)
        assert tasks.parse(json.loads(json.dumps(spec.settings()))) == spec
        assert hash(spec) == hash(tasks.parse(spec.settings()))


def test_schema_of_every_task():
    from typing import Annotated

    from asyncsim.registry import Spec

    class Scenario(Spec):
        task: Annotated[TaskSpec, tasks]

    text = json.dumps(json_schema(Scenario))
    assert all(f'"const": "{name}"' in text for name in [*tasks.names(), *models.names(), "dirichlet"])


def test_registries_annotate_fields():
    class Both(BaseModel):
        model: AnyModel
        partition: AnyPartition

    both = Both.model_validate({"model": {"kind": "mlp", "hidden": [8, 4]}, "partition": "uniform"})
    assert both.model_dump()["model"]["hidden"] == [8, 4]


def test_start_may_give_the_dimension():
    assert Quadratic(start=(1.0, 2.0, 3.0)).num_parameters() == 3
    assert Quadratic(curvature=(1.0, 2.0)).num_parameters() == 2
    assert Quadratic(dim=7).num_parameters() == 7


def test_more_of_a_metric_is_better_where_it_says_so():
    """Every metric of every task: tuning takes the largest of these, and the smallest of all others."""
    from asyncsim.metrics import rising

    every = {metric for name in NAMED for metric in tasks[name].metrics}
    assert {metric for metric in every if rising(f"validation_{metric}")} == {"accuracy", "auc", "average_precision"}
    assert every >= {"loss", "perplexity", "bits_per_char", "distance"}
