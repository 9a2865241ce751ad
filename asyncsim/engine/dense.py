"""Gradients of fully connected classifiers in closed form, many snapshots at once, without autograd.

The backward pass is generated from the module's structure. A call works on ``W`` snapshots and ``W`` batches as stacked matrix
products; ``W = 1`` is the same code on views of the snapshot itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from asyncsim.tasks.objective import Classification

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task


@dataclass(frozen=True)
class Dense:
    """One linear layer within the flat vector, and the activation after it."""

    weight: int  # offset of the (out, in) matrix
    bias: int | None  # offset of the (out,) vector
    fan_in: int
    fan_out: int
    activation: str | None  # relu, tanh, or None

    def matrix(self, rows: Tensor) -> Tensor:
        """The weights ``(W, out, in)`` as a view of ``rows`` (W, at least P)."""
        stride = rows.stride(0)
        return rows.as_strided(
            (len(rows), self.fan_out, self.fan_in), (stride, self.fan_in, 1), rows.storage_offset() + self.weight
        )  # fmt: skip

    def vector(self, rows: Tensor, bias: int) -> Tensor:
        """The vector ``(W, out)`` at the offset ``bias`` as a view of ``rows``."""
        return rows[:, bias : bias + self.fan_out]


@dataclass(frozen=True)
class DenseNetwork:
    """The ``layers`` of a fully connected classifier with cross-entropy. Two tasks with equal networks can share a call."""

    layers: tuple[Dense, ...]
    num_parameters: int

    kind = "dense"

    @classmethod
    def of(cls, task: Task) -> DenseNetwork | None:
        """The network of a task whose module is a chain of Flatten, Linear, ReLU and Tanh layers under cross-entropy; None for
        other tasks."""
        module = task.module
        if type(task.objective) is not Classification or not isinstance(module, nn.Sequential):
            return None
        layers: list[Dense] = []
        offset = 0
        for index, layer in enumerate(module):
            if isinstance(layer, nn.Linear):
                size = layer.in_features * layer.out_features
                bias = offset + size if layer.bias is not None else None
                layers.append(Dense(offset, bias, layer.in_features, layer.out_features, None))
                offset += size + (layer.out_features if layer.bias is not None else 0)
            elif isinstance(layer, nn.ReLU | nn.Tanh):
                if not layers or layers[-1].activation is not None:
                    return None
                last = layers[-1]
                name = "relu" if isinstance(layer, nn.ReLU) else "tanh"
                layers[-1] = Dense(last.weight, last.bias, last.fan_in, last.fan_out, name)
            elif not (isinstance(layer, nn.Flatten) and index == 0 and (layer.start_dim, layer.end_dim) == (1, -1)):
                return None
        if not layers or layers[-1].activation is not None or offset != task.layout.num_parameters:
            return None
        return cls(tuple(layers), offset)

    @property
    def operations(self) -> int:
        """Floating-point operations of one sample's gradient."""
        return 6 * sum(layer.fan_in * layer.fan_out for layer in self.layers)

    def gradients(self, rows: Tensor, inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients ``(W, P')`` and losses ``(W,)`` for snapshots ``rows`` (W, P'), inputs ``(W, B, ...)``, targets ``(W, B)``.

        ``P'`` is P or more (rows may be padded); what lies behind P in a gradient row is undefined.
        """
        width, batch = targets.shape
        signals = [inputs.reshape(width, batch, -1)]
        for layer in self.layers:
            weight = layer.matrix(rows).transpose(1, 2)
            if layer.bias is None:
                output = torch.bmm(signals[-1], weight)
            else:
                output = torch.baddbmm(layer.vector(rows, layer.bias).unsqueeze(1), signals[-1], weight)
            if layer.activation == "relu":
                output.relu_()
            elif layer.activation == "tanh":
                output.tanh_()
            signals.append(output)
        logs = torch.log_softmax(signals.pop(), 2)
        chosen = targets.unsqueeze(2)
        losses = logs.gather(2, chosen).mean((1, 2)).neg_()
        error = logs.exp_()
        error.scatter_add_(2, chosen, error.new_full((), -1.0).expand(width, batch, 1))
        error.div_(batch)
        gradients = torch.empty_like(rows)
        for layer in reversed(self.layers):
            signal = signals.pop()
            torch.bmm(error.transpose(1, 2), signal, out=layer.matrix(gradients))
            if layer.bias is not None:
                torch.sum(error, 1, out=layer.vector(gradients, layer.bias))
            if signals:
                error = torch.bmm(error, layer.matrix(rows))
                below = self.layers[len(signals) - 1].activation
                if below == "relu":
                    error.mul_(signal > 0)
                elif below == "tanh":
                    error.mul_(1.0 - signal * signal)
        return gradients, losses
