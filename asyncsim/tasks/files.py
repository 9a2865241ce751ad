"""Data sets that the user brings. ``data_dir``, ``$ASYNCSIM_DATA`` and ``~/.cache/asyncsim`` are searched; nothing is downloaded.

Without augmentation: the paper figures on CIFAR use random crops and flips, so expect lower accuracies here.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from asyncsim.paths import ScenarioPath, absolute
from asyncsim.tasks.data import npz
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.data.cifar import cifar
from asyncsim.tasks.data.idx import idx
from asyncsim.tasks.data.search import is_file, missing, roots
from asyncsim.tasks.data_task import AnyModel, ClassificationTask
from asyncsim.tasks.models.resnet import ResNet20
from asyncsim.tasks.spec import tasks


class FileTask(ClassificationTask):
    """A task on files that the user brings. ``verify: false`` accepts files that are not, byte for byte, the published ones."""

    data_dir: ScenarioPath | None = None
    verify: bool = True


@tasks.register("cifar10")
class Cifar10(FileTask):
    """CIFAR-10, 50,000 + 10,000 of 3x32x32, per channel (x / 255 - mean) / std. Python or binary version, or its .tar.gz."""

    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)
    classes: ClassVar[int] = 10
    model: AnyModel = ResNet20()

    def arrays(self) -> Arrays:
        return cifar(self.classes, self.data_dir, self.verify)


@tasks.register("cifar100")
class Cifar100(Cifar10):
    """CIFAR-100 with its 100 fine labels; everything else is as for `cifar10`."""

    classes: ClassVar[int] = 100


@tasks.register("idx")
class Idx(FileTask):
    """MNIST and its relatives in their idx files, pixels / 255. ``other`` files are taken without checksums.

    Debian's package dataset-fashion-mnist is found without being named.
    """

    dataset: Literal["fashion_mnist", "mnist", "other"] = "fashion_mnist"
    shape: tuple[int, int, int] = (1, 28, 28)
    classes: int = Field(default=10, ge=2, le=256)

    @model_validator(mode="after")
    def _one_channel(self) -> Self:
        if self.shape[0] != 1:
            raise ValueError(f"idx images have one channel: `shape` is (1, height, width), not {self.shape}")
        return self

    def arrays(self) -> Arrays:
        return idx(self.dataset, self.data_dir, self.shape, self.classes, self.verify)


@tasks.register("npz")
class Npz(ClassificationTask):
    """One ``.npz`` with x_train, y_train, x_test, y_test. Bytes are divided by 255, other numbers taken as they are."""

    file: str
    shape: tuple[int, ...]
    classes: int = Field(ge=2)
    data_dir: ScenarioPath | None = None

    @field_validator("file")
    @classmethod
    def _near_the_scenario(cls, file: str, info: ValidationInfo) -> str:
        near = absolute(file, info)
        return near if is_file(Path(near)) else file

    def arrays(self) -> Arrays:
        tried = list(dict.fromkeys(root / self.file for root in [Path(), *roots(self.data_dir)]))
        for path in tried:
            if is_file(path):
                return npz.load(path, self.shape, self.classes)
        raise missing(f"The file {self.file}", "or write an .npz with x_train, y_train, x_test, y_test", tried, "mnist5k")
