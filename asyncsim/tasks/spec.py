"""What a scenario says about a task and its model. This module is free of torch: `asyncsim plan` needs sizes, not numbers.

A model of your own is a class, too::

    import math

    from asyncsim.registries import models
    from asyncsim.tasks import ModelSpec
    from torch import nn

    @models.register("bottleneck")
    class Bottleneck(ModelSpec):
        width: int = 4

        def module(self, signature) -> nn.Module:
            features = math.prod(signature.inputs)
            return nn.Sequential(nn.Flatten(), nn.Linear(features, self.width), nn.Linear(self.width, signature.outputs))
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from asyncsim.ambient import seeded, sheltered
from asyncsim.registry import Registry, Spec
from asyncsim.tasks.layout import trained

if TYPE_CHECKING:
    from torch import nn

    from asyncsim.tasks.task import Task

tasks: Registry[TaskSpec] = Registry("task")
models: Registry[ModelSpec] = Registry("model")

MOST_PARAMETERS = 10**12
"""Of a model, or dimensions of a quadratic."""
MOST_BATCH = 10**9
Kind = Literal["vector", "image", "text", "ids", "samples"]
Shapes = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Signature:
    """What a task hands to its model: ``inputs`` is the shape of one sample, ``(d,)``, ``(C, H, W)``, ``(S,)`` for IDs, ``()``
    for text (the model chooses its context), or any (``samples``); ``outputs`` the number of classes or of distinct symbols.
    ``tables`` has for each column of IDs the number of its rows, and how many of the S places it takes."""

    kind: Kind
    inputs: tuple[int, ...]
    outputs: int
    tables: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, shape: tuple[int, ...], classes: int) -> Signature:
        """The signature of labelled vectors ``(d,)`` or images ``(C, H, W)``. Raises ``ValueError`` for another shape."""
        if len(shape) not in (1, 3) or min(shape) < 1:
            raise ValueError(f"a sample is a vector (d,) or an image (channels, height, width), not {shape}")
        return cls("vector" if len(shape) == 1 else "image", tuple(shape), classes)


class ModelSpec(Spec):
    """The settings of a model. It knows the number of its parameters, and builds the module where torch is available."""

    takes: ClassVar[tuple[Kind, ...]] = ("vector", "image")

    def check(self, signature: Signature) -> None:
        """Raise ``ValueError`` if this model cannot take the samples that the task hands to it."""
        if signature.kind not in self.takes:
            fitting = ", ".join(name for name, cls in models if signature.kind in cls.takes)
            raise ValueError(
                f"model `{self.kind}` takes {' or '.join(self.takes)} inputs, and this task has {signature.kind} inputs; "
                f"models that fit: {fitting}"
            )

    def num_parameters(self, signature: Signature) -> int:
        """The number of parameters P. Built-in models know it in closed form."""
        return sum(map(math.prod, self.tensor_shapes(signature)))

    def tensor_shapes(self, signature: Signature) -> Shapes:
        """The shape of each parameter tensor, in their order in the flat vector. Some models know them in closed form; by default
        the module is built on torch's meta device to look at them."""
        return built_shapes(self, signature)

    def knows_its_size(self) -> bool:
        """Is the number of parameters known without building the module?"""
        return any(getattr(type(self), name) is not getattr(ModelSpec, name) for name in ("num_parameters", "tensor_shapes"))

    @abstractmethod
    def module(self, signature: Signature) -> nn.Module:
        """A new module with the initial values drawn from torch's CPU generator, which the caller has seeded.
        An ``nn.Sequential`` wherever natural: its entries are what a pipeline may cut between."""


def built_shapes(model: ModelSpec, signature: Signature) -> Shapes:
    """The shape of each parameter tensor that is trained, of a model that is built for this."""
    import torch

    with sheltered(), seeded(0), torch.device("meta"):
        return tuple(tuple(parameter.shape) for _, parameter in trained(model.module(signature)))


class TextModel(ModelSpec):
    """A language model over characters, bytes or tokens: ``(B, context)`` integers in, scores of the next one out."""

    takes: ClassVar[tuple[Kind, ...]] = ("text",)
    dense: ClassVar[bool] = False
    """Does the model predict every position, with outputs ``(B, context, V)``? Otherwise it predicts what follows the window,
    ``(B, V)``."""

    context: int = Field(default=12, ge=1, le=1_000_000)


class TaskSpec(Spec):
    """A task's settings: data, model and loss. ``batch`` is the number of samples in one gradient."""

    metrics: ClassVar[tuple[str, ...]] = ("loss",)
    """The names of the metrics that an evaluation measures."""
    remembers: ClassVar[bool] = False
    """Does the task remember something beside its parameters? Then the program of a method carries it (``Need.MEMORY``)."""

    batch: int = Field(default=32, ge=1, le=MOST_BATCH)

    @abstractmethod
    def num_parameters(self) -> int:
        """The number of parameters P, without torch and without loading data."""

    def layer_shapes(self) -> Shapes:
        """The shape of each parameter tensor, in their order in the flat vector; by default there is one, a vector."""
        return ((self.num_parameters(),),)

    @abstractmethod
    def build(self, seed: int, device: str = "cpu", dtype: str = "float32", num_workers: int = 1) -> Task:
        """Build the task that computes.

        ``seed`` is the run's; ``num_workers`` matters to partitions that give each worker a shard. Raises ``UserError``
        (``DataMissing``, ``ChecksumError``) where the data is missing or cannot be used.
        """
