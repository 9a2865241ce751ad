"""What a user brings: module, data and functions, turned into what a task is made of, or refused in a sentence."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset, default_collate

from asyncsim.ambient import seeded, sheltered
from asyncsim.errors import UserError, first_line
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.dropout import Dropout
from asyncsim.tasks.layout import trained
from asyncsim.tasks.objective import Classification, Custom, Objective

LOSSES = nn.CrossEntropyLoss | nn.NLLLoss
"""Losses of PyTorch's whose targets are classes."""
Function = Callable[[Tensor, Tensor], Any]


@dataclass(frozen=True, eq=False)
class Given:
    """The objects of an experiment, checked: the data as ``Arrays``, the shape of a sample and the number of outputs."""

    model: nn.Module | Callable[[], nn.Module]
    arrays: Arrays
    inputs: tuple[int, ...]
    outputs: int
    loss: Function | None
    metrics: Mapping[str, Function]
    key: str

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the metrics that an evaluation measures."""
        return self.objective().metrics

    def module(self) -> nn.Module:
        """A new module on PyTorch's default device, with the initial values: those of the module that was given, or those that
        the function draws."""
        module = copy.deepcopy(self.model) if isinstance(self.model, nn.Module) else self.model()
        return with_keyed_dropout(module).to(torch.get_default_device())

    def objective(self) -> Objective:
        if self.loss is not None:
            return Custom(self.loss, self.metrics)
        return Custom(nn.functional.cross_entropy, {"accuracy": accuracy, **self.metrics}) if self.metrics else Classification()


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    """The share of samples whose largest score ``(B, C)`` is that of their class ``(B,)``."""
    return (outputs.argmax(1) == targets).double().mean()


def given(
    model: nn.Module | Callable[[], nn.Module], train: Any, test: Any, loss: Function | None, metrics: Mapping[str, Function]
) -> Given:
    """Check what the user has brought, on two samples. Raises ``UserError``."""
    for name, function in metrics.items():
        if not name.isidentifier() or name == "loss" or not callable(function):
            raise UserError(f"metrics: {name!r} must be a name other than loss, for a function of outputs and targets")
    if isinstance(loss, nn.Module) and getattr(loss, "reduction", "mean") != "mean":
        raise UserError(f"loss: {loss} has the reduction {loss.reduction!r}; only a mean over samples has steps of one size")
    with sheltered():
        arrays = Arrays(pairs(train, "train"), pairs(test, "test"), labels=loss is None or isinstance(loss, LOSSES))
        with seeded(0):  # and the process's own generators are as they were afterwards
            module = model if isinstance(model, nn.Module) else _made(model)
            _refuse_lazy(module)
            outputs = _tried(with_keyed_dropout(copy.deepcopy(module)).cpu(), arrays, loss, metrics)
        digest = hashlib.sha256()
        for part in (*arrays.train, *arrays.test, *module.state_dict().values()):
            digest.update(repr((tuple(part.shape), part.dtype)).encode() + _bytes(part))
        for name, parameter in module.named_parameters():
            digest.update(f"{name} {parameter.requires_grad}".encode())
        for each in (repr(module), model, loss, *metrics.items()):
            digest.update(_described(each).encode())
    model = copy.deepcopy(model) if isinstance(model, nn.Module) else model  # it may change
    loss = copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss
    return Given(model, arrays, tuple(arrays.train[0].shape[1:]), outputs, loss, dict(metrics), digest.hexdigest()[:16])


def pairs(data: Any, what: str) -> tuple[Tensor, Tensor]:
    """Inputs ``(n, ...)`` and targets ``(n, ...)`` of arrays, tensors, frames, a map-style ``Dataset``, or a ``DataLoader`` over
    one (its order and its number of samples a batch are not looked at). Raises ``UserError``."""
    if isinstance(data, DataLoader):
        if data.collate_fn is not default_collate:
            raise UserError(f"{what}: the loader has a collate function of its own; give tensors, or a data set of its results")
        data = data.dataset
    if isinstance(data, IterableDataset):
        raise UserError(f"{what}: an iterable data set has no samples by number, so no batch could be made again; make it a list")
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, Dataset) or (isinstance(data, Sequence) and len(data) != 2):
        data = _collected(data, what)
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise UserError(f"{what}: must be inputs and targets, as two arrays or a data set of pairs, not a {type(data).__name__}")
    inputs, targets = (_tensor(each, f"{what}: the {name}") for each, name in zip(data, ("inputs", "targets"), strict=True))
    return inputs, targets


def _collected(data: Any, what: str) -> tuple[Any, Any]:
    """All samples of a map-style data set in two tensors."""
    try:
        samples = [data[index] for index in range(len(data))]
    except Exception as error:
        raise UserError(f"{what}: a sample cannot be read: {type(error).__name__}: {error}") from error
    if not samples:
        raise UserError(f"{what}: the data set is empty")
    if not isinstance(samples[0], tuple | list) or len(samples[0]) != 2:
        raise UserError(f"{what}: a sample is a {type(samples[0]).__name__}; a pair of one input and one target is needed")
    try:
        inputs, targets = default_collate(samples)
        first, again = default_collate([samples[0]]), default_collate([data[0]])
    except (TypeError, RuntimeError, ValueError) as error:
        raise UserError(f"{what}: samples cannot be put into one tensor: {first_line(error)}") from None
    if isinstance(inputs, Tensor) and not all(torch.equal(one, other) for one, other in zip(first, again, strict=True)):
        raise UserError(f"{what}: sample 0 is another one when it is read again; samples must be a function of their number")
    return inputs, targets


def _tensor(values: Any, what: str) -> Tensor:
    if isinstance(values, Mapping) and not hasattr(values, "to_numpy"):
        raise UserError(f"{what} are a {type(values).__name__}; one tensor is needed, which the model may take apart")
    try:
        if not isinstance(values, Tensor):
            values = np.array(values.to_numpy() if hasattr(values, "to_numpy") else values)  # a copy, which may be written to
        tensor = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{what} are no numbers: {first_line(error)}") from None
    if not tensor.ndim or not len(tensor):
        raise UserError(f"{what} are empty")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        row = int((~torch.isfinite(tensor)).reshape(len(tensor), -1).any(1).nonzero()[0])
        raise UserError(f"{what} of sample {row} are not finite")
    return tensor.clone()


def _made(model: Any) -> nn.Module:
    module = model() if callable(model) else model
    if not isinstance(module, nn.Module):
        raise UserError(f"model: must be a torch.nn.Module or a function that returns one, not a {type(module).__name__}")
    return module


def _refuse_lazy(module: nn.Module) -> None:
    lazy = [name for name, each in module.named_parameters() if isinstance(each, nn.parameter.UninitializedParameter)]
    if lazy:
        raise UserError(f"model: {lazy[0]} has no shape yet; compute one forward pass before, so that lazy layers know theirs")


def _tried(module: nn.Module, arrays: Arrays, loss: Function | None, metrics: Mapping[str, Function]) -> int:
    """Compute one gradient on two samples, without noise. Returns the number of outputs of a sample."""
    inputs, targets = (torch.as_tensor(each[:2]) for each in arrays.train)
    inputs, targets = (each.float() if each.is_floating_point() else each for each in (inputs, targets))
    module.float().eval()
    outputs = _called("model: cannot take", module, inputs)
    if not isinstance(outputs, Tensor):
        raise UserError(f"model: returns a {type(outputs).__name__}; a module that returns one tensor is needed (wrap it)")
    if loss is None and (targets.is_floating_point() or targets.ndim != 1 or outputs.ndim != 2):
        raise UserError(
            f"loss: is missing; outputs {tuple(outputs.shape)} and targets {tuple(targets.shape)} of type {targets.dtype} are "
            "not scores (B, C) and classes (B,), for which it would be the cross-entropy"
        )
    classes = outputs.shape[1] if outputs.ndim > 1 else 1
    if loss is None and not 0 <= int(arrays.train[1].min()) <= int(arrays.train[1].max()) < classes:
        low, high = int(arrays.train[1].min()), int(arrays.train[1].max())
        raise UserError(f"train: labels run from {low} to {high}; the model has {classes} outputs, so 0 to {classes - 1} allowed")
    value = _called("loss: cannot take", loss or nn.functional.cross_entropy, outputs, targets)
    if not isinstance(value, Tensor) or value.ndim:
        shape = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
        raise UserError(f"loss: returns a result {shape}; the mean over samples, a 0-dimensional tensor, is needed")
    _differentiated(module, value)
    for name, function in metrics.items():
        measured = _called(f"metrics: {name} cannot take", function, outputs.detach(), targets)
        if not isinstance(measured, int | float) and not (isinstance(measured, Tensor) and measured.numel() == 1):
            raise UserError(f"metrics: {name} returns a {type(measured).__name__}; the mean over samples, one number, is needed")
    return classes


def _differentiated(module: nn.Module, value: Tensor) -> None:
    names = [name for name, _ in trained(module)]
    if not names:
        raise UserError("model: has no parameters to train (none requires gradients)")
    if not value.requires_grad:
        raise UserError("loss: does not depend on the parameters (was it detached, or computed with NumPy?)")
    gradients = torch.autograd.grad(value, [parameter for _, parameter in trained(module)], allow_unused=True)
    unused = [name for name, gradient in zip(names, gradients, strict=True) if gradient is None]
    if unused:
        raise UserError(f"model: {', '.join(unused)} has no part in the loss; freeze it: `.requires_grad_(False)`")


def _called(what: str, function: Callable[..., Any], *tensors: Tensor) -> Any:
    try:
        return function(*tensors)
    except Exception as error:
        shapes = " and ".join(f"{tuple(each.shape)} of type {each.dtype}" for each in tensors)
        raise UserError(f"{what} a batch {shapes}: {type(error).__name__}: {first_line(error)}") from error


def with_keyed_dropout(module: nn.Module) -> nn.Module:
    """The module with ``asyncsim.tasks.Dropout`` in place of every ``nn.Dropout``: the same law, and masks that are a function of
    seed, worker and step."""
    if type(module) is nn.Dropout:
        return Dropout(module.p)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Dropout:
                setattr(parent, name, Dropout(child.p))
    return module


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _described(value: Any) -> str:
    """What tells a function, a module or a value from another, without addresses: for functions their code, defaults and what
    they enclose; for other objects their type."""
    if isinstance(value, CodeType):
        constants = [_described(each) for each in value.co_consts]
        return f"{value.co_code.hex()} {value.co_names} {constants}"
    code = getattr(value, "__code__", None)
    if code is not None:
        cells = [cell.cell_contents for cell in getattr(value, "__closure__", None) or ()]
        return f"{_described(code)} {[_described(each) for each in (*(value.__defaults__ or ()), *cells)]}"
    if isinstance(value, Tensor):
        return f"{tuple(value.shape)} {_bytes(value).hex()}"
    if isinstance(value, nn.Module):
        return f"{value!r} {[(name, _described(each)) for name, each in value.state_dict().items()]}"
    if isinstance(value, str | int | float | bool | type(None)):
        return repr(value)
    if isinstance(value, tuple | list):
        return f"{[_described(each) for each in value]}"
    return f"{type(value).__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
