"""Compute one gradient before a run, to check that nothing in a task draws from a global generator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from asyncsim.ambient import Generators, moved, undrawn
from asyncsim.tasks.task import Task


def refuse_draws(task: Task, kind: str) -> None:
    """Raise ``UserError`` where batch, model or loss of a task move a global generator, naming the layer.

    What draws seldom, or at evaluation only, is found while the run goes on.
    """
    device = str(task.parameters[0].device)
    inputs, targets = undrawn(f"task `{kind}`: its `batch`", device, task.batch, 0, 0)
    before = Generators.read(device)
    outputs = _forward(task, inputs.clone())
    if moved(before, device):
        before.put_back(device)
        undrawn(f"task `{kind}`: {_culprit(task, inputs, device)}", device, _forward, task, inputs)
    loss = undrawn(f"task `{kind}`: its loss", device, task.loss, outputs, targets)
    if loss.requires_grad:
        who = f"task `{kind}`: the backward pass of its model or loss"
        undrawn(who, device, lambda: torch.autograd.grad(loss, task.parameters, allow_unused=True))


def _forward(task: Task, inputs: Tensor) -> Tensor:
    task.bind(task.init())
    if task.has_masks:
        task.seed_masks(0)
    return task.module(inputs)


def _culprit(task: Task, inputs: Tensor, device: str) -> str:
    """The innermost layer during whose forward pass a global generator moves."""
    states: dict[nn.Module, Generators] = {}
    found: list[nn.Module] = []

    def before(layer: nn.Module, _: Any) -> None:
        states[layer] = Generators.read(device)

    def after(layer: nn.Module, *_: Any) -> None:
        if not found and moved(states[layer], device):
            found.append(layer)

    hooks = [
        hook
        for layer in task.module.modules()
        for hook in (layer.register_forward_pre_hook(before), layer.register_forward_hook(after))
    ]
    start = Generators.read(device)
    _forward(task, inputs.clone())
    start.put_back(device)
    for hook in hooks:
        hook.remove()
    name = next((name for name, layer in task.module.named_modules() if layer in found), "")
    return f"layer {name!r} ({type(found[0]).__name__})" if name else f"its model ({type(task.module).__name__})"
