"""Who interacts next? A stream of timed interactions between nodes, which a network remembers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from asyncsim.ambient import seeded, sheltered
from asyncsim.errors import UserError
from asyncsim.paths import ScenarioPath
from asyncsim.registry import Spec
from asyncsim.streams import Streams
from asyncsim.tasks.data.contacts import contacts
from asyncsim.tasks.data.interactions import MOST_INTERACTIONS, Interactions, load
from asyncsim.tasks.spec import MOST_BATCH, TaskSpec, tasks

if TYPE_CHECKING:
    from asyncsim.tasks.task import Task

PLACES = 4
"""Features of a contact of the generator."""


class Contacts(Spec):
    """Interactions that are made where there is no file, the same for every seed: `asyncsim.tasks.data.contacts` says how."""

    interactions: int = Field(default=6000, ge=10, le=MOST_INTERACTIONS)
    nodes: int = Field(default=100, ge=2, le=1_000_000)
    drift: float = Field(default=0.5, ge=0)
    recency: float = Field(default=0.2, ge=0, le=1)
    noise: float = Field(default=0.1, ge=0)


@tasks.register("temporal_graph")
class TemporalGraph(TaskSpec):
    """Predict the links of a temporal graph with a network that has a memory of every node (TGN, Rossi et al. 2020).

    ``file`` holds a row for each interaction: CSV, Parquet or JSON Lines with ``columns`` for the time and the two nodes, and
    for ``features``; ``bipartite`` if the nodes of the two columns are of different kinds. Without one, ``contacts``
    among nodes that wander are made. A gradient is that of ``batch`` interactions in order of time, and of as many pairs that did
    not interact. The last share ``test`` of the interactions is the test set, the share ``validation`` before it the validation
    set. ``width`` is that of memory and embeddings; ``neighbours`` of the last partners are attended to, with 0 the network
    knows of a node what it remembers, and nothing else.

    Each epoch begins with an empty memory. Every evaluation makes memory anew with the parameters of that moment, and writes it
    batch by batch. Metrics: loss (cross-entropy in nats), average precision, and the area under the ROC curve.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "average_precision", "auc")
    remembers: ClassVar[bool] = True

    batch: int = Field(default=50, ge=1, le=MOST_BATCH)
    file: ScenarioPath | None = None
    columns: tuple[str, str, str] = ("time", "i", "j")
    features: tuple[str, ...] = ()
    bipartite: bool = False
    contacts: Contacts = Contacts()
    width: int = Field(default=16, ge=1, le=4096)
    neighbours: int = Field(default=5, ge=0, le=1000)
    validation: float = Field(default=0.15, ge=0, lt=1)
    test: float = Field(default=0.15, gt=0, lt=1)

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError(f"`validation` and `test` leave nothing to learn from: {self.validation:g} + {self.test:g}; below 1")
        idle = ("columns", "features", "bipartite") if self.file is None else ("contacts",)
        why = "there is no `file`" if self.file is None else "the interactions are those of the `file`"
        for name in idle:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"`{name}` would do nothing: {why}")
        return self

    @property
    def num_features(self) -> int:
        """The number of features of an interaction, F."""
        return PLACES if self.file is None else len(self.features)

    def layer_shapes(self) -> tuple[tuple[int, ...], ...]:
        width, features = self.width, self.num_features
        mail = 3 * width + features
        shapes: list[tuple[int, ...]] = [(width,), (width,), (3 * width, mail), (3 * width, width), (3 * width,), (3 * width,)]
        if self.neighbours:
            shapes += [(width, 2 * width), (width,), (2 * width, 2 * width + features), (2 * width,)]
        inner = 2 * width if self.neighbours else width
        return (*shapes, (width, inner), (width,), (width, 3 * width), (width,), (1, width), (1,))

    def num_parameters(self) -> int:
        return sum(map(math.prod, self.layer_shapes()))

    def data(self) -> Interactions:
        """The interactions. What was made or read is kept for other runs in the process."""
        if self.file is not None:
            return load(Path(self.file), self.columns, self.features, self.bipartite)
        made = self.contacts
        return contacts(made.interactions, made.nodes, made.drift, made.recency, made.noise)

    def bounds(self, size: int) -> dict[str, tuple[int, int]]:
        """The first interaction of each split, and the one after the last, of ``size`` interactions."""
        test = size - round(size * self.test)
        train = test - round(size * self.validation)
        if train < self.batch or test == size or (self.validation and test == train):
            raise UserError(
                f"task: of {size:,} interactions {train:,} are left to learn from, {test - train:,} for validation and "
                f"{size - test:,} for the test; a batch has {self.batch}, and no split may be empty"
            )
        return {"train": (0, train), **({"validation": (train, test)} if self.validation else {}), "test": (test, size)}

    def build(self, seed: int, device: str = "cpu", dtype: str = "float32", num_workers: int = 1) -> Task:
        from asyncsim.tasks.models.tgn import Tgn
        from asyncsim.tasks.partners import Stream
        from asyncsim.tasks.remembering import LinkTask
        from asyncsim.tasks.task import floating

        data, streams = self.data(), Streams(seed)
        bounds = self.bounds(data.size)
        with sheltered(), seeded(streams.integer("init")):
            module = Tgn(self.width, self.num_features, self.neighbours)
        source = Stream(data, self.neighbours, bounds["train"][1], self.batch, streams, device, floating(dtype))
        return LinkTask(module.to(device, floating(dtype)), source, bounds)
