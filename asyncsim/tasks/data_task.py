"""Tasks that learn from a data set.

One of your own is a class, in a module or in a notebook cell::

    from typing import ClassVar

    from asyncsim.registries import tasks
    from asyncsim.tasks import Arrays, ClassificationTask
    from sklearn.datasets import make_moons

    @tasks.register("moons")
    class Moons(ClassificationTask):
        noise: float = 0.2
        shape: ClassVar = (2,)
        classes: ClassVar = 2

        def arrays(self) -> Arrays:
            X, y = make_moons(2000, noise=self.noise, random_state=0)
            return Arrays(train=(X[:1600], y[:1600]), test=(X[1600:], y[1600:]))
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from asyncsim.ambient import seeded, sheltered
from asyncsim.errors import UserError
from asyncsim.streams import Streams
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.models.dense import Mlp
from asyncsim.tasks.partition import Partition, Shuffled, partitions
from asyncsim.tasks.spec import MOST_PARAMETERS, ModelSpec, Signature, TaskSpec, models

if TYPE_CHECKING:
    from torch import nn

    from asyncsim.tasks.objective import Objective
    from asyncsim.tasks.task import Task

AnyModel = Annotated[ModelSpec, models]
AnyPartition = Annotated[Partition, partitions]


class DataTask(TaskSpec):
    """A model on a data set.

    ``partition`` says who sees which samples; ``validation`` is the share of the training part that is held out of it, the
    same samples for every seed; ``batch_norm`` what batch-norm layers use at evaluation (see `asyncsim.tasks.task`).
    """

    model: AnyModel = Mlp()
    partition: AnyPartition = Shuffled()
    validation: float = Field(default=0.1, ge=0, lt=1)
    batch_norm: Literal["recalibrate", "running"] = "recalibrate"

    @property
    @abstractmethod
    def signature(self) -> Signature:
        """What the model gets and what it has to return. It is known without the data."""

    @abstractmethod
    def arrays(self) -> Arrays:
        """The raw data set. Loaders keep it, so that many runs in one process load it once."""

    @abstractmethod
    def objective(self) -> Objective:
        """The loss and the metrics."""

    @model_validator(mode="after")
    def _model_fits(self) -> Self:
        self.model.check(self.signature)
        if self.model.knows_its_size() and self.num_parameters() > MOST_PARAMETERS:
            count = f"{self.num_parameters():,} parameters"
            raise ValueError(f"model `{self.model.kind}` has {count}; at most {MOST_PARAMETERS:,} are allowed")
        return self

    def num_parameters(self) -> int:
        return self.model.num_parameters(self.signature)

    def layer_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.model.tensor_shapes(self.signature)

    def build(self, seed: int, device: str = "cpu", dtype: str = "float32", num_workers: int = 1) -> Task:
        from asyncsim.tasks.batches import Batches, prepare
        from asyncsim.tasks.task import Task, floating

        streams = Streams(seed)
        with seeded(Streams(0).integer("data")):  # loaders keep what they made, for runs of other seeds too
            arrays = self.arrays()
        splits = prepare(arrays, self.validation, device, floating(dtype))
        inputs, targets = splits["train"]
        if arrays.labels and tuple(inputs.shape[1:]) != self.signature.inputs:
            raise UserError(f"task `{self.kind}`: samples have shape {tuple(inputs.shape[1:])}, expected {self.signature.inputs}")
        labels = targets.cpu().numpy() if arrays.labels else None
        if labels is not None and not 0 <= labels.min() <= labels.max() < self.signature.outputs:
            raise UserError(
                f"task `{self.kind}`: labels run from {labels.min()} to {labels.max()}; 0 to {self.signature.outputs - 1} allowed"
            )
        sampler = self.partition.sampler(len(inputs), labels, self.batch, num_workers, streams)
        module = self._module(streams).to(device, floating(dtype))
        source = Batches(splits["train"], sampler, self.batch, streams)
        return Task(module, source, self.objective(), splits, batch_norm=self.batch_norm)

    def _module(self, streams: Streams) -> nn.Module:
        """The module with its initial values: drawn on the CPU in float32, so the same for every device and precision."""
        with sheltered(), seeded(streams.integer("init")):
            return self.model.module(self.signature)


class ClassificationTask(DataTask):
    """Samples of one shape, ``(d,)`` or ``(C, H, W)``, in classes 0, 1, ...

    Subclasses have ``shape`` and ``classes``, as fields or as class attributes, and ``arrays``.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "accuracy")

    @property
    def signature(self) -> Signature:
        return Signature.of(self.shape, self.classes)  # type: ignore[attr-defined]  # subclasses have them

    def objective(self) -> Objective:
        from asyncsim.tasks.objective import Classification

        return Classification()
