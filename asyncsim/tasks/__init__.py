"""Tasks: data, model and loss behind one flat parameter vector.

The settings (all names here except `Task` and `Dropout`) are free of torch, so that a scenario can be validated and a
timeline planned without it. ``spec.build(seed)`` builds the `Task` that computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncsim.tasks.clicks import ClickThrough
from asyncsim.tasks.cutting import Cut
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.data_task import AnyModel, AnyPartition, ClassificationTask, DataTask
from asyncsim.tasks.experiment import Experiment
from asyncsim.tasks.files import Cifar10, Cifar100, Idx, Npz
from asyncsim.tasks.images import Digits, Mnist5k, Mnistm5k
from asyncsim.tasks.layout import Layout
from asyncsim.tasks.partition import Partition
from asyncsim.tasks.python_file import PythonTask, allow_code
from asyncsim.tasks.quadratic import Quadratic
from asyncsim.tasks.spec import ModelSpec, Signature, TaskSpec, TextModel
from asyncsim.tasks.temporal import TemporalGraph
from asyncsim.tasks.text import PydocLm, TextTask, TokenLm

if TYPE_CHECKING:
    from asyncsim.tasks.dropout import Dropout
    from asyncsim.tasks.task import Task

__all__ = [
    "AnyModel",
    "AnyPartition",
    "Arrays",
    "Cifar10",
    "Cifar100",
    "ClassificationTask",
    "ClickThrough",
    "Cut",
    "DataTask",
    "Digits",
    "Dropout",
    "Experiment",
    "Idx",
    "Layout",
    "Mnist5k",
    "Mnistm5k",
    "ModelSpec",
    "Npz",
    "Partition",
    "PydocLm",
    "PythonTask",
    "Quadratic",
    "Signature",
    "Task",
    "TaskSpec",
    "TemporalGraph",
    "TextModel",
    "TextTask",
    "TokenLm",
    "allow_code",
]


def __getattr__(name: str) -> Any:
    if name == "Task":
        from asyncsim.tasks.task import Task

        return Task
    if name == "Dropout":
        from asyncsim.tasks.dropout import Dropout

        return Dropout
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
