from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from asyncsim.scenario import Document, Scenario, build_scenario

sys.path.append(str(Path(__file__).parents[1] / "resume"))

GAMMA = {"kind": "gamma_heterogeneous", "mean": "1s"}


@pytest.fixture(autouse=True)
def _threads_as_they_were():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make():
    """``make(method, workers=5, cluster={...}, updates=..., ...)``: digits in float64, workers of different speed."""

    def make(method: Any, workers: int = 5, cluster: dict[str, Any] | None = None, updates: int = 100, **more: Any) -> Scenario:
        data = {
            "task": {"kind": "digits", "model": {"kind": "mlp", "hidden": [6], "activation": "tanh"}, "batch": 8},
            "cluster": {"workers": workers, "compute": GAMMA} | (cluster or {}), "method": method, "dtype": "float64",
            "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3}, "run": {"updates": updates},
            "evaluate": {"updates": updates}, "engine": "serial", **more,
        }  # fmt: skip
        return build_scenario(Document(data, "test"))

    return make


class Worker:
    """SGD with momentum and weight decay on one model, from its equations: ``v <- m v + g + wd x;  x <- x - lr v``."""

    def __init__(self, start: torch.Tensor, lr: float = 0.1, momentum: float = 0.9, decay: float = 1e-3) -> None:
        self.x = start.clone()
        self.v = torch.zeros_like(start)
        self.w = 1.0
        self.lr, self.momentum, self.decay = lr, momentum, decay

    def step(self, gradient: torch.Tensor) -> None:
        self.v = self.momentum * self.v + gradient + self.decay * self.x
        self.x = self.x - self.lr * self.v


@pytest.fixture(scope="session")
def loop():
    """``loop(scenario)``: the task's ``gradient(params, worker, step)`` by autograd, and fresh workers."""

    def loop(scenario: Scenario, **settings: float):
        task = scenario.task.build(scenario.seed, "cpu", "float64", scenario.groups)
        layers = list(task.module.named_parameters())
        start = torch.cat([each.detach().reshape(-1) for _, each in layers])

        def gradient(params: torch.Tensor, worker: int, step: int) -> torch.Tensor:
            inputs, targets = task.batch(worker, step)
            leaf = params.clone().requires_grad_()
            pieces = leaf.split([each.numel() for _, each in layers])
            named = {name: piece.reshape(each.shape) for (name, each), piece in zip(layers, pieces, strict=True)}
            outputs = torch.func.functional_call(task.module, named, (inputs,))
            torch.nn.functional.cross_entropy(outputs, targets).backward()
            return leaf.grad

        return gradient, [Worker(start, **settings) for _ in range(scenario.groups)]

    return loop
