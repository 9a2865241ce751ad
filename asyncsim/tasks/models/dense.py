"""Fully connected models."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from asyncsim.tasks.spec import ModelSpec, Signature, models

if TYPE_CHECKING:
    from torch import nn

Width = Annotated[int, Field(ge=1)]


@models.register("softmax")
class Softmax(ModelSpec):
    """Multinomial logistic regression: one linear layer. Its loss is convex."""

    def num_parameters(self, signature: Signature) -> int:
        return affine([math.prod(signature.inputs), signature.outputs])

    def module(self, signature: Signature) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(signature.inputs), signature.outputs))


@models.register("mlp")
class Mlp(ModelSpec):
    """A multilayer perceptron: hidden layers of the given widths, with PyTorch's default initial values."""

    hidden: Annotated[tuple[Width, ...], Field(max_length=1000)] = (64,)
    activation: Literal["relu", "tanh"] = "relu"

    def num_parameters(self, signature: Signature) -> int:
        return affine([math.prod(signature.inputs), *self.hidden, signature.outputs])

    def module(self, signature: Signature) -> nn.Module:
        from torch import nn

        activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[self.activation]
        layers: list[nn.Module] = [nn.Flatten()]
        widths = [math.prod(signature.inputs), *self.hidden]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], signature.outputs))


def affine(widths: list[int]) -> int:
    """The number of parameters of linear layers between these widths."""
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))
