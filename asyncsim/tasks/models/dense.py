"""Fully connected models."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from asyncsim.tasks.spec import ModelSpec, Shapes, Signature, models

if TYPE_CHECKING:
    from torch import nn

Width = Annotated[int, Field(ge=1)]


@models.register("softmax")
class Softmax(ModelSpec):
    """Multinomial logistic regression: one linear layer. Its loss is convex."""

    def tensor_shapes(self, signature: Signature) -> Shapes:
        return affine([math.prod(signature.inputs), signature.outputs])

    def module(self, signature: Signature) -> nn.Module:
        from torch import nn

        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(signature.inputs), signature.outputs))


@models.register("mlp")
class Mlp(ModelSpec):
    """A multilayer perceptron: hidden layers of the given widths, with PyTorch's default initial values."""

    hidden: Annotated[tuple[Width, ...], Field(max_length=1000)] = (64,)
    activation: Literal["relu", "tanh"] = "relu"

    def tensor_shapes(self, signature: Signature) -> Shapes:
        return affine([math.prod(signature.inputs), *self.hidden, signature.outputs])

    def module(self, signature: Signature) -> nn.Module:
        from torch import nn

        activation = {"relu": nn.ReLU, "tanh": nn.Tanh}[self.activation]
        layers: list[nn.Module] = [nn.Flatten()]
        widths = [math.prod(signature.inputs), *self.hidden]
        for fan_in, fan_out in pairwise(widths):
            layers += [nn.Linear(fan_in, fan_out), activation()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], signature.outputs))


def affine(widths: list[int]) -> Shapes:
    """The shapes of weights and biases of linear layers between these widths."""
    return tuple(shape for fan_in, fan_out in pairwise(widths) for shape in ((fan_out, fan_in), (fan_out,)))
