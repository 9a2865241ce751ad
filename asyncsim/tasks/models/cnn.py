"""A small convolutional network without normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.tasks.spec import Kind, ModelSpec, Shapes, Signature, models

if TYPE_CHECKING:
    from torch import nn


@models.register("cnn")
class Cnn(ModelSpec):
    """Convolutions 5x5 (stride 2), 3x3 (stride 2), 3x3 of ``width``, 2 ``width`` and 2 ``width`` channels, each with a ReLU;
    then one linear layer over all positions. 11,546 parameters on 1x28x28 with 10 classes. No batch norm: samples do not
    interact."""

    takes: ClassVar[tuple[Kind, ...]] = ("image",)
    width: int = Field(default=8, ge=1)

    def tensor_shapes(self, signature: Signature) -> Shapes:
        channels, width, outputs = signature.inputs[0], self.width, signature.outputs
        return (
            (width, channels, 5, 5), (width,), (2 * width, width, 3, 3), (2 * width,), (2 * width, 2 * width, 3, 3), (2 * width,),
            (outputs, self._features(signature)), (outputs,),
        )  # fmt: skip

    def module(self, signature: Signature) -> nn.Module:
        from torch import nn

        return nn.Sequential(
            nn.Conv2d(signature.inputs[0], self.width, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(self.width, 2 * self.width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(2 * self.width, 2 * self.width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(self._features(signature), signature.outputs),
        )

    def _features(self, signature: Signature) -> int:
        _, height, width = signature.inputs
        return 2 * self.width * (-(-height // 4)) * (-(-width // 4))
