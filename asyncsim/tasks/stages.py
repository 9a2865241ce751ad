"""The computation of each stage of a model that is cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors

from asyncsim.tasks.layout import Layout, trained
from asyncsim.tasks.statistics import Statistics


class StageModule:
    """Consecutive layers of an ``nn.Sequential``, or the whole of another module, with parameters handed in instead of its own.

    ``parameters`` is its piece of the model's flat vector, ``(P_k,)`` long.
    """

    def __init__(self, module: nn.Module, first: int, statistics: slice, whole: Statistics) -> None:
        self.module = module
        self.layout = Layout.of(module)
        self.parameters = slice(first, first + self.layout.num_parameters)
        self.statistics = statistics
        self._whole = whole
        self._shapes = [torch.empty(shape, device="meta") for shape in self.layout.shapes]
        place = {id(parameter): index for index, (_, parameter) in enumerate(trained(module))}
        self._slots: list[tuple[Any, str, int]] = [  # torch means Parameters, and takes any tensor; a tied one has two
            (layer, name, place[id(value)])
            for layer in module.modules() for name, value in layer._parameters.items() if id(value) in place
        ]  # fmt: skip

    def views(self, params: Tensor) -> list[Tensor]:
        """Pieces of ``params`` (``(P_k,)``), one a parameter tensor. Nothing is copied."""
        return list(_unflatten_dense_tensors(params, self._shapes))

    def leaves(self, params: Tensor) -> list[Tensor]:
        """The same pieces, as leaves of a new graph."""
        return [view.detach().requires_grad_() for view in self.views(params)]

    def forward(self, leaves: list[Tensor], inputs: Tensor) -> Tensor:
        """The output of the stage with these parameters."""
        own = [layer._parameters[name] for layer, name, _ in self._slots]
        try:
            for layer, name, index in self._slots:
                layer._parameters[name] = leaves[index]
            return self.module(inputs)
        finally:
            for (layer, name, _), parameter in zip(self._slots, own, strict=True):
                layer._parameters[name] = parameter

    def read_statistics(self) -> Tensor | None:
        """Batch statistics of the last forward, a copy, ``(B_k,)``; None without batch norm."""
        return self._whole.read()[self.statistics] if self.statistics.stop > self.statistics.start else None
