"""Images that need no download: they come with packages that asyncsim depends on. No augmentation anywhere."""

from __future__ import annotations

from typing import ClassVar

from asyncsim.tasks.data import builtin
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.data_task import AnyModel, ClassificationTask
from asyncsim.tasks.models.resnet import ResNet8
from asyncsim.tasks.spec import tasks


@tasks.register("digits")
class Digits(ClassificationTask):
    """scikit-learn's digits: 1,437 + 360 of 1x8x8, pixels / 16. About 98 % with an MLP in a second."""

    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    classes: ClassVar[int] = 10

    def arrays(self) -> Arrays:
        return builtin.digits()


@tasks.register("mnist5k")
class Mnist5k(ClassificationTask):
    """5,000 MNIST digits: 4,000 + 1,000 of 1x28x28, pixels / 255. About 94.6 % with an MLP, 97.8 % with ResNet-8."""

    shape: ClassVar[tuple[int, ...]] = (1, 28, 28)
    classes: ClassVar[int] = 10

    def arrays(self) -> Arrays:
        return builtin.mnist5k()


@tasks.register("mnistm5k")
class Mnistm5k(ClassificationTask):
    """Digits of `mnist5k` blended with photos: 4,000 + 1,000 of 3x32x32, pixels / 255; of CIFAR's shape, harder than MNIST."""

    shape: ClassVar[tuple[int, ...]] = (3, 32, 32)
    classes: ClassVar[int] = 10
    model: AnyModel = ResNet8()

    def arrays(self) -> Arrays:
        return builtin.mnistm5k()
