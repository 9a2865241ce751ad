"""The recurrences of `docs/pipelines.md` as plain loops: lists of parameter vectors, no clock, no queue, no engine."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Parameters = list[list[Tensor]]
"""Parameter tensors of each stage."""


class Net:
    """A model in stages and its batches."""

    def __init__(self, module: nn.Sequential, layers: tuple[int, ...], batches: Callable[[int], tuple[Tensor, Tensor]]) -> None:
        ends = [sum(layers[: k + 1]) for k in range(len(layers))]
        self.stages = [module[end - count : end] for count, end in zip(layers, ends, strict=True)]
        self.batches = batches
        self.start: Parameters = [[p.detach().clone() for p in stage.parameters()] for stage in self.stages]

    def forward(self, stage: int, params: list[Tensor], x: Tensor) -> Tensor:
        names = [name for name, _ in self.stages[stage].named_parameters()]
        return torch.func.functional_call(self.stages[stage], dict(zip(names, params, strict=True)), (x,))

    def gradient(self, batch: int, params: Parameters, shrink: float = 1.0) -> tuple[Parameters, float]:
        """The gradient of every stage for one batch, with parameters of its choice for each stage, and the loss."""
        x, y = self.batches(batch)
        inputs, outputs, leaves = [], [], []
        for k in range(len(self.stages)):
            x = x.detach().requires_grad_(k > 0)
            inputs.append(x)
            leaves.append([p.detach().requires_grad_() for p in params[k]])
            x = self.forward(k, leaves[k], x)
            outputs.append(x)
        loss = nn.functional.cross_entropy(outputs[-1], y)
        gradients: Parameters = [[] for _ in self.stages]
        signal = None
        for k in reversed(range(len(self.stages))):
            wanted = leaves[k] + ([inputs[k]] if k else [])
            found = torch.autograd.grad(loss if signal is None else outputs[k], wanted, signal)
            gradients[k] = list(found[: len(leaves[k])])
            if k:
                signal = found[-1] * shrink
        return gradients, float(loss.detach())


def flat(params: Parameters) -> Tensor:
    return torch.cat([p.reshape(-1) for stage in params for p in stage])


def stepped(params: list[Tensor], gradient: list[Tensor], lr: float) -> list[Tensor]:
    return [p.add(g, alpha=-lr) for p, g in zip(params, gradient, strict=True)]


def delayed(net: Net, updates: int, lr: float, staleness: Callable[[int], int], shrink: float = 1.0) -> Tensor:
    """``u_k(b) = u_k(b-1) - lr * grad_k f_b(u_1(b-1-tau_1), ..., u_K(b-1-tau_K))``; stages count from 1."""
    stages = len(net.stages)
    history: list[Parameters] = [net.start]
    for batch in range(updates):
        read = [history[max(0, batch - staleness(k + 1))][k] for k in range(stages)]
        gradient, _ = net.gradient(batch, read, shrink)
        history.append([stepped(history[-1][k], gradient[k], lr) for k in range(stages)])
    return flat(history[-1])


def nesterov(
    net: Net, updates: int, lr: float, momentum: float, decay: float, staleness: Callable[[int], int], ahead: bool = True
) -> Tensor:
    """``v <- gam v + (1 - gam) (g + wd u)``, ``u <- u - lr v``, stage by stage; what a pass reads is ``u - lr gam v``, or ``u``
    if not ``ahead``, as it was after so many updates before."""
    stages = range(len(net.stages))
    params = [list(stage) for stage in net.start]
    velocity = [[torch.zeros_like(p) for p in stage] for stage in net.start]
    handed: list[Parameters] = [net.start]
    for batch in range(updates):
        gradient, _ = net.gradient(batch, [handed[max(0, batch - staleness(k + 1))][k] for k in stages])
        for k in stages:
            d = [g + decay * p for g, p in zip(gradient[k], params[k], strict=True)]
            velocity[k] = [momentum * v + (1 - momentum) * each for v, each in zip(velocity[k], d, strict=True)]
            params[k] = stepped(params[k], velocity[k], lr)
        reach = lr * momentum if ahead else 0.0
        handed.append([stepped(params[k], velocity[k], reach) for k in stages])
    return flat(params)


def accumulated(net: Net, updates: int, lr: float, lag: Callable[[int], int], every: int, total: bool) -> Tensor:
    """As many gradients an update; batch ``n`` is read when ``n - lag`` gradients have been received."""
    stages = len(net.stages)
    history: list[Parameters] = [net.start]
    for update in range(updates):
        sums: list[list[Tensor] | None] = [None] * stages
        for batch in range(update * every, (update + 1) * every):
            read = [history[max(0, batch - lag(k + 1)) // every][k] for k in range(stages)]
            gradient, _ = net.gradient(batch, read)
            for k in range(stages):
                sums[k] = gradient[k] if sums[k] is None else [a + b for a, b in zip(sums[k], gradient[k], strict=True)]
        scale = 1.0 if total else 1.0 / every
        history.append([stepped(history[-1][k], [g * scale for g in sums[k]], lr) for k in range(stages)])
    return flat(history[-1])


def features_replay(net: Net, updates: int, lr: float) -> Tensor:
    """Iteration ``t``: forward batch ``t`` through all stages; stage ``k`` of ``K`` forwards the input of batch ``t - K + k``
    again with its current parameters, and differentiates with the error signal of stage ``k + 1`` from the iteration before."""
    stages = len(net.stages)
    params = [list(stage) for stage in net.start]
    inputs: dict[tuple[int, int], Tensor] = {}
    signals: dict[tuple[int, int], Tensor] = {}
    for t in range(updates + stages):
        x, _ = net.batches(t)
        for k in range(stages):
            inputs[k, t] = x
            x = net.forward(k, params[k], x).detach()
        arriving: dict[tuple[int, int], Tensor] = {}
        after = list(params)
        for k in range(stages):
            batch = t - (stages - 1 - k)
            if not 0 <= batch < updates:
                continue
            own = inputs[k, batch].detach().requires_grad_(k > 0)
            leaves = [p.detach().requires_grad_() for p in params[k]]
            output = net.forward(k, leaves, own)
            wanted = leaves + ([own] if k else [])
            if k == stages - 1:
                found = torch.autograd.grad(nn.functional.cross_entropy(output, net.batches(batch)[1]), wanted)
            else:
                found = torch.autograd.grad(output, wanted, signals[k + 1, batch])
            after[k] = stepped(params[k], list(found[: len(leaves)]), lr)
            if k:
                arriving[k, batch] = found[-1]
        params = after
        signals |= arriving
    return flat(params)


def old_activations_new_weights(net: Net, updates: int, lr: float, lag: Callable[[int], int]) -> Tensor:
    """Delayed gradients (forward first) without a stash, for stages of one linear layer and tanh, differentiated by hand:
    activations and slopes are those of the forward pass, the matrix that carries the error signal down is the current one."""
    stages = len(net.stages)
    passes: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # (stage, batch): input and output of its forward pass
    signals: dict[tuple[int, int], Tensor] = {}
    params = [list(stage) for stage in net.start]
    for slot in range(updates + 2 * stages * stages):
        # stage by stage in the order of a tick-driven run: stage k is at batch slot - k
        before = [list(stage) for stage in params]
        arriving: dict[tuple[int, int], Tensor] = {}
        for k in range(stages):
            n = slot - k
            if n >= 0:
                below = net.batches(n)[0].flatten(1) if k == 0 else passes[k - 1, n][1]
                weight, bias = before[k]
                raw = below @ weight.t() + bias
                passes[k, n] = (below, torch.tanh(raw) if k < stages - 1 else raw)
            batch = n - lag(k + 1)
            if not 0 <= batch < updates:
                continue
            below, output = passes[k, batch]
            if k == stages - 1:
                y = net.batches(batch)[1]
                error = (torch.softmax(output, 1) - nn.functional.one_hot(y, output.shape[1])) / len(y)
            else:
                error = signals[k + 1, batch] * (1 - output**2)
            arriving[k, batch] = error @ before[k][0]
            params[k] = stepped(before[k], [error.t() @ below, error.sum(0)], lr)
        signals |= arriving
    return flat(params)
