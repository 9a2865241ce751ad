from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from asyncsim.tasks.task import Task


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_data_of_mine(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests see neither the variable nor the cache of whoever runs them."""
    monkeypatch.delenv("ASYNCSIM_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def gradient() -> Callable[..., torch.Tensor]:
    def gradient(task: Task, params: torch.Tensor, worker: int = 0, step: int = 0, key: int = 0) -> torch.Tensor:
        inputs, targets = task.batch(worker, step)
        task.seed_masks(key)
        task.bind(params)
        parts = torch.autograd.grad(task.loss(task.module(inputs), targets), task.parameters)
        return torch.cat([part.reshape(-1) for part in parts])

    return gradient


@pytest.fixture
def train(gradient: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """SGD with momentum 0.9 by one worker, the learning rate cut at half and three quarters."""

    def train(task: Task, steps: int, lr: float) -> torch.Tensor:
        params = task.init()
        velocity = torch.zeros_like(params)
        for step in range(steps):
            rate = lr * min(1.0, (step + 1) / (0.05 * steps)) * 0.1 ** ((step >= steps // 2) + (step >= 3 * steps // 4))
            velocity = 0.9 * velocity + gradient(task, params, 0, step)
            params = params - rate * velocity
        return params

    return train
