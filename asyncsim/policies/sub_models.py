"""Sub-models: workers that train some of the neurons only, and which those are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import Field

from asyncsim.errors import UserError
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.needs import Need
from asyncsim.policies.state import State
from asyncsim.policies.transform import Shapes, Transform, policies
from asyncsim.registry import Spec

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-12
"""Added to the size of a weight before a change is divided by it, so that the change of a weight at zero is very large, not
infinite or undefined."""


class Hidden(NamedTuple):
    """A hidden layer: so many ``neurons`` (channels of a convolution), whose weights and biases are in the tensors ``weight`` and
    ``weight + 1``, and which the tensor ``weight + 2`` reads."""

    neurons: int
    weight: int


@lru_cache(maxsize=64)
def hidden_layers(shapes: Shapes) -> tuple[Hidden, ...]:
    """The hidden layers of a chain of dense layers and convolutions, from the shapes of its parameter tensors: pairs of a weight
    ``(n, m, ...)`` and a bias ``(n,)``, where ``m`` is a multiple of the ``n`` before. (Channels that are flattened give each as
    many inputs as they have positions, one channel after the other.)

    Raises ``ValueError`` for other models: tables of embeddings, normalisation, attention, layers without biases, no hidden
    layer. Shortcuts cannot be told by shapes; they are found by what they let pass (`SubModels`).
    """
    weights, biases = shapes[::2], shapes[1::2]
    pairs = len(weights) == len(biases) > 1 and all(
        len(weight) > 1 and bias == weight[:1] for weight, bias in zip(weights, biases, strict=True)
    )
    if not pairs or any(after[1] % before[0] for before, after in pairwise(weights)):
        raise ValueError(
            "sub-models are made of dense layers and convolutions with biases, one after the other, with a hidden layer at least "
            f"(models mlp, cnn); the parameter tensors here have the shapes {', '.join(map(str, shapes[:6]))}"
            + (", ..." if len(shapes) > 6 else "")
        )
    return tuple(Hidden(shape[0], 2 * place) for place, shape in enumerate(weights[:-1]))


def kept(share: float, neurons: int) -> int:
    """How many of a layer's neurons a sub-model with this share of them has: ``int(share * neurons)``, but one at least."""
    return max(1, int(share * neurons))


class SubModelSettings(Spec):
    """The fields of the transform, and of the methods that hold one."""

    dropout: Literal["invariant", "random", "ordered"] = "invariant"
    threshold: float | None = Field(default=None, ge=0)
    raise_by: float = Field(default=0.2, ge=0)
    raise_every: int = Field(default=2, ge=1)
    raise_after: int = Field(default=10, ge=0)
    agreement: float = Field(default=0.75, gt=0, le=1)
    time: Literal["share", "flops"] = "share"


@dataclass(slots=True)
class Drawn(State):
    """The sub-model that a worker was handed: at which version, and the neurons of each hidden layer that it lacks, in ascending
    order."""

    version: int
    dropped: list[list[int]]


@dataclass(slots=True)
class Neurons(State):
    """What is known of the neurons of each hidden layer.

    ``changes``: by how much each of them has changed at most, shape ``(n,)``, in each push of a whole model of this round.
    ``invariant``: those that are, in ascending order. ``thresholds``: below which a change counts as none; empty before the
    first. ``drawn``: the last sub-model of each worker that has one.
    """

    changes: list[list[Tensor]] = field(default_factory=list)
    invariant: list[list[int]] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    drawn: dict[int, Drawn] = field(default_factory=dict)


@policies.register("sub_models")
class SubModels(SubModelSettings, Transform):
    """Hand those workers that are to train a share ``p`` of the model (the consistency rule says who) a sub-model with
    ``int(p * n)`` of the ``n`` neurons of every hidden layer. Others are handed the whole model.

    The neurons that are left out are, by ``dropout``: ``invariant`` ones (FLuID: Wang, Nair, Mahajan 2023), ``random`` ones,
    drawn anew in every round, or the last ones (``ordered``, as in FjORD). A neuron is invariant if in ``agreement`` of the
    pushes of whole models each of its weights in and out and its bias has changed by at most ``threshold`` times its size. First
    those are left out which were in the round before and are invariant again, then others that are invariant, each in their
    order, then random ones. Without ``threshold`` each layer has the smallest at which one neuron was invariant in round 2, from
    round 4 on averaged with that of round 3. It grows by ``raise_by`` after every ``raise_every`` rounds from ``raise_after`` on,
    where fewer neurons are invariant than the smallest sub-model of the round left out.

    What is left out is zero in what the worker is handed, stays so in its steps, and is masked in what it pushes, so a mean
    behind this is over those who trained a parameter. ``time`` says what times and bytes follow: the ``share`` of the neurons, or
    the share of the weights and biases that are left (``flops``: dense layers alone).
    """

    needs: ClassVar[Need] = Need.VALUES

    def init(self, params: Tensor | None, num_workers: int) -> Neurons:
        return Neurons()

    def cost(self, share: float, shapes: Shapes) -> float:
        layers = hidden_layers(shapes)
        if self.time == "share":
            return share
        if any(len(shape) > 2 for shape in shapes):
            raise ValueError("the operations of convolutions do not follow from their shapes; take `time: share`")
        widths = [shapes[0][1], *(kept(share, layer.neurons) for layer in layers), shapes[-1][0]]
        return sum(out * (before + 1) for before, out in pairwise(widths)) / sum(map(math.prod, shapes))

    def sub_model(self, share: float, state: Neurons, server: ServerView, worker: int) -> Tensor | None:
        drawn = state.drawn.get(worker)
        if drawn is None or drawn.version != server.version:  # else it reads again in this round
            drawn = state.drawn[worker] = self._draw(share, drawn, state, server, worker)
        return mask(drawn.dropped, server)

    def update(self, push: Push, state: Neurons, server: ServerView) -> Push | Verdict:
        if push.trained is None:
            if self.dropout == "invariant":
                state.changes.append(changes(push, server))
            return push
        assert push.payload is not None, "it looks at numbers"
        computed = push.payload.result().gradient
        if computed.masked_fill(push.trained, 0).any() and computed.isfinite().all():
            raise UserError(
                f"worker {push.worker} has trained neurons that were left out of its sub-model: those of this model are not "
                "connected layer by layer (shortcuts), or are not zero where their weights are (an activation with f(0) != 0)"
            )
        push.replaced = push.gradient.masked_fill(~push.trained, 0)
        return push

    def applied(self, direction: Tensor, state: Neurons, server: ServerView) -> None:
        if state.changes:
            self._judge([agreed(list(layer), self.agreement) for layer in zip(*state.changes, strict=True)], state, server)
            state.changes = []

    def _judge(self, least: list[Tensor], state: Neurons, server: ServerView) -> None:
        """Find the invariant neurons at the end of a round, in which each was invariant from the threshold ``least`` on."""
        ended = server.version + 1  # rounds, counted from 1
        smallest = [float(layer.min()) for layer in least]
        if not state.thresholds and (self.threshold is not None or ended >= 2):
            state.thresholds = smallest if self.threshold is None else [self.threshold] * len(least)
        elif self.threshold is None and ended == 3:
            state.thresholds = [(old + new) / 2 for old, new in zip(state.thresholds, smallest, strict=True)]
        now = [drawn.dropped for drawn in state.drawn.values() if drawn.version == server.version]
        wanted = [max((len(dropped[place]) for dropped in now), default=0) for place in range(len(least))]
        raising = ended > self.raise_after and (ended - self.raise_after) % self.raise_every == 0
        state.invariant = []
        for place, threshold in enumerate(state.thresholds):
            if raising and int((least[place] <= threshold).sum()) < wanted[place]:
                threshold = state.thresholds[place] = threshold + self.raise_by
            state.invariant.append((least[place] <= threshold).nonzero().flatten().tolist())

    def _draw(self, share: float, before: Drawn | None, state: Neurons, server: ServerView, worker: int) -> Drawn:
        """A worker's sub-model of this round."""
        layers = _layers(server)
        again = before.dropped if before is not None and before.version == server.version - 1 else [[]] * len(layers)
        invariant = state.invariant or [[]] * len(layers)
        dropped = []
        for place, layer in enumerate(layers):
            last = list(range(kept(share, layer.neurons), layer.neurons))
            if self.dropout == "ordered":
                dropped.append(last)
                continue
            drawn = server.streams("sub_model", worker, server.version, place).permutation(layer.neurons).tolist()
            still = [neuron for neuron in invariant[place] if neuron in again[place]]
            ranked = list(dict.fromkeys([*still, *invariant[place], *drawn]))
            dropped.append(sorted(ranked[: len(last)]))
        return Drawn(server.version, dropped)


def mask(dropped: list[list[int]], server: ServerView) -> Tensor:
    """True at the parameters of a sub-model without the ``dropped`` neurons of each hidden layer: shape ``(P,)``."""
    params = server.params
    found = params.new_ones(params.shape).bool()
    for layer, neurons in zip(_layers(server), dropped, strict=True):
        into, bias, out = (_tensor(found, layer.weight + place, server) for place in range(3))
        into.view(layer.neurons, -1)[neurons] = False
        bias[neurons] = False
        out.view(len(out), layer.neurons, -1)[:, neurons] = False
    return found


def changes(push: Push, server: ServerView) -> list[Tensor]:
    """By how much each neuron of each hidden layer has changed in a push of a whole model, shapes ``(n,)``: the largest
    ``|w_new - w_old| / |w_old|`` of its weights in and out and its bias."""
    old = push.snapshot.params
    assert old is not None, "it looks at numbers"
    relative = push.gradient.abs() / (old.abs() + TINY)
    found = []
    for layer in _layers(server):
        into, bias, out = (_tensor(relative, layer.weight + place, server) for place in range(3))
        largest = into.view(layer.neurons, -1).amax(1), out.view(len(out), layer.neurons, -1).amax((0, 2))
        found.append(largest[0].maximum(largest[1]).maximum(bias))
    return found


def agreed(layers: Sequence[Tensor], agreement: float) -> Tensor:
    """The smallest threshold, shape ``(n,)``, at or below which the share ``agreement`` of the pushes say that a neuron has not
    changed; each of ``layers``, shapes ``(n,)``, is from one push."""
    stacked = layers[0].new_empty(len(layers), *layers[0].shape)
    for place, layer in enumerate(layers):
        stacked[place] = layer
    return stacked.sort(0).values[math.ceil(agreement * len(layers)) - 1]


def _tensor(vector: Tensor, place: int, server: ServerView) -> Tensor:
    """A parameter tensor as a piece of a flat ``vector``, which it shares."""
    return vector[server.layers[place]].view(server.shapes[place])


def _layers(server: ServerView) -> tuple[Hidden, ...]:
    try:
        return hidden_layers(server.shapes)
    except ValueError as error:
        raise UserError(str(error)) from None
