"""The settings of a task that is made of a user's own objects (`asyncsim.experiment`). A scenario names them by a key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.data_task import DataTask
from asyncsim.tasks.spec import Kind, ModelSpec, Signature, models, tasks

if TYPE_CHECKING:
    from torch import nn

    from asyncsim.tasks.given import Given
    from asyncsim.tasks.objective import Objective

_known: dict[str, Given] = {}
"""The objects of all experiments of this process, by their keys."""
KEY = r"[0-9a-f]{16}"


def remember(made: Given) -> None:
    """Keep the objects of an experiment, for as long as this process lives."""
    _known[made.key] = made


def objects(key: str) -> Given:
    """The objects of an experiment. Raises ``ValueError`` if it was not made in this process."""
    if key not in _known:
        raise ValueError(
            f"experiment {key} has not been made in this process; call asyncsim.experiment with the same model, data and "
            "functions first (and sweep in one process)"
        )
    return _known[key]


@models.register("given")
class GivenModel(ModelSpec):
    """The model of an experiment, by the ``key`` of the experiment."""

    takes: ClassVar[tuple[Kind, ...]] = ("samples",)
    key: str = Field(pattern=KEY)

    def check(self, signature: Signature) -> None:
        objects(self.key)

    def module(self, signature: Signature) -> nn.Module:
        return objects(self.key).module()


def with_own_model(data: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an experiment with its model, the one that its key stands for. Raises ``ValueError`` for another."""
    own = {"kind": "given", "key": data["key"]}
    if data.get("model", own) != own:
        raise ValueError("an experiment has the model that it was made with; call asyncsim.experiment with the other one")
    return {**data, "model": own}


@tasks.register("experiment")
class Experiment(DataTask):
    """A model, data and functions that were handed to `asyncsim.experiment` in this process.

    ``key`` is made of their contents: equal objects have the same key in another process, so a run can be resumed there once they
    have been made again.
    """

    key: str = Field(pattern=KEY)
    validation: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="before")
    @classmethod
    def _own_model(cls, data: Any) -> Any:
        return with_own_model(data) if isinstance(data, Mapping) and "key" in data else data

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]  # they are those of the functions that were given
        return objects(self.key).names

    @property
    def signature(self) -> Signature:
        own = objects(self.key)
        return Signature("samples", own.inputs, own.outputs)

    def arrays(self) -> Arrays:
        return objects(self.key).arrays

    def objective(self) -> Objective:
        return objects(self.key).objective()
