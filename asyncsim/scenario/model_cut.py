"""The scenario's section ``stages``: where a model is cut, and what each stage costs."""

from __future__ import annotations

from itertools import accumulate
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from asyncsim.cluster import Link
from asyncsim.errors import first_line
from asyncsim.registry import Spec
from asyncsim.tasks import Cut, DataTask, TaskSpec
from asyncsim.tasks.cutting import Layer, balanced, layers_of

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(gt=0)]
MOST = 1024


class Stages(Spec):
    """Cut the model into ``count`` stages, each on a worker of its own.

    ``split`` balances operations, parameters or layers over the stages, or gives the number of layers of each by hand. A layer is
    an entry of the model's ``nn.Sequential``: what is inside an entry stays together, and one without parameters stays with the
    entry before. ``time`` is what a stage's share of the compute time follows: its operations, its parameters, nothing
    (``equal``), or weights by hand (measured seconds, say). ``forward`` is the forward pass's share of that. Activations and
    error signals cross ``link``, by default the sender's uplink.
    """

    shorthand: ClassVar[str | None] = "count"
    count: int = Field(default=1, ge=1, le=MOST)
    split: Literal["operations", "parameters", "layers"] | tuple[Count, ...] = "operations"
    time: Literal["operations", "parameters", "equal"] | tuple[Weight, ...] = "operations"
    forward: float = Field(default=1 / 3, gt=0, lt=1)
    link: Link | None = None

    def cut(self, task: TaskSpec) -> Cut:
        """The stages of a task's model. Raises ``ValueError`` if it cannot be cut like that."""
        if self.count == 1:
            return Cut()
        for name in ("split", "time"):
            given = getattr(self, name)
            if isinstance(given, tuple) and len(given) != self.count:
                raise ValueError(f"`stages.{name}` has {len(given)} entries for {self.count} stages")
        if not isinstance(task, DataTask):
            raise ValueError(f"task `{task.kind}` has no layers that could be cut into stages")
        try:
            layers = layers_of(task.model, task.signature)
        except (RuntimeError, OverflowError, TypeError) as error:  # PyTorch cannot describe such a model
            raise ValueError(f"model `{task.model.kind}` cannot be cut into stages: {first_line(error)}") from None
        counts = self.split if isinstance(self.split, tuple) else balanced(layers, self.count, self.split)
        if sum(counts) != len(layers):
            raise ValueError(f"`stages.split` places {sum(counts)} layers, model `{task.model.kind}` has {len(layers)}")
        ends = list(accumulate(counts))
        pieces = [layers[end - count : end] for count, end in zip(counts, ends, strict=True)]
        parameters = tuple(sum(layer.parameters for layer in piece) for piece in pieces)
        if 0 in parameters:
            raise ValueError(f"stage {parameters.index(0) + 1} would have no parameters to train; give it other layers")
        weights = self._weights(pieces, parameters)
        shares = tuple(weight / sum(weights) for weight in weights)
        return Cut(tuple(counts), parameters, shares, tuple(piece[-1].outputs for piece in pieces[:-1]))

    def _weights(self, pieces: list[tuple[Layer, ...]], parameters: tuple[int, ...]) -> tuple[float, ...]:
        if isinstance(self.time, tuple):
            return self.time
        if self.time == "equal":
            return (1.0,) * len(pieces)
        return parameters if self.time == "parameters" else tuple(sum(layer.operations for layer in piece) for piece in pieces)
