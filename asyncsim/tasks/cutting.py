"""The layers of a model, and where to cut between them. Torch is imported only when a model is looked at."""

from __future__ import annotations

from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from asyncsim.ambient import seeded, sheltered
from asyncsim.tasks.layout import trained
from asyncsim.tasks.spec import ModelSpec, Signature, TextModel


class Layer(NamedTuple):
    """One entry of an ``nn.Sequential``, with its sizes for one sample."""

    name: str
    parameters: int
    operations: float  # floating-point operations of a forward pass, one for every output of layers that have none
    outputs: int  # numbers


class Cut(NamedTuple):
    """A model cut into stages. Tuples have one entry for each stage; ``boundaries`` has one for each pair of neighbours."""

    layers: tuple[int, ...] = ()  # how many of the model's layers
    parameters: tuple[int, ...] = ()
    shares: tuple[float, ...] = (1.0,)  # of the time of a whole gradient
    boundaries: tuple[int, ...] = ()  # numbers that cross it, a sample and direction


@lru_cache(maxsize=64)
def layers_of(model: ModelSpec, signature: Signature) -> tuple[Layer, ...]:
    """The layers of a model, measured on torch's meta device, where nothing is computed. Raises ``ValueError`` if it has none."""
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    with sheltered(), seeded(0), torch.device("meta"):
        module = model.module(signature).eval()
        if not isinstance(module, nn.Sequential):
            raise ValueError(f"model `{model.kind}` is a {type(module).__name__}; only an nn.Sequential can be cut into stages")
        shape = (model.context,) if isinstance(model, TextModel) else signature.inputs
        values = torch.zeros((1, *shape), dtype=torch.int64 if signature.kind in ("text", "ids") else None)
        layers = []
        for name, child in module.named_children():
            with torch.no_grad(), FlopCounterMode(display=False) as counter:
                values = child(values)
            parameters = sum(parameter.numel() for _, parameter in trained(child))
            layers.append(Layer(name, parameters, float(counter.get_total_flops() or values.numel()), values.numel()))
    return tuple(layers)


def balanced(layers: tuple[Layer, ...], count: int, by: str) -> tuple[int, ...]:
    """The number of layers in each stage that makes the largest stage as small as possible. Raises ``ValueError`` if there are
    too few layers."""
    starts = [index for index, layer in enumerate(layers) if layer.parameters]
    if len(starts) < count:
        raise ValueError(f"{count} stages need {count} layers with parameters at least; this model has {len(starts)}")
    starts[0] = 0
    ends = [*starts[1:], len(layers)]
    costs = [
        1.0 if by == "layers" else sum(getattr(layer, by) for layer in layers[start:end])
        for start, end in zip(starts, ends, strict=True)
    ]  # fmt: skip
    sums = [0.0, *accumulate(costs)]
    # best[n]: (cost of the largest stage, where the last stage begins) for the first n units in so many stages
    best: list[list[tuple[float, int]]] = [[(sums[n], 0) for n in range(len(costs) + 1)]]
    for stages in range(2, count + 1):
        row = [(float("inf"), 0)] * stages
        for n in range(stages, len(costs) + 1):
            row.append(min((max(best[-1][cut][0], sums[n] - sums[cut]), cut) for cut in range(stages - 1, n)))
        best.append(row)
    cuts = [len(costs)]
    for row in reversed(best):
        cuts.append(row[cuts[-1]][1])
    bounds = [*starts, len(layers)]
    return tuple(bounds[end] - bounds[start] for start, end in zip(cuts[:0:-1], cuts[-2::-1], strict=True))
