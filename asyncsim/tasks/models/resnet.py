"""ResNets for small images (He et al. 2016, section 4.2, https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from asyncsim.tasks.spec import Kind, ModelSpec, Signature, models

if TYPE_CHECKING:
    from torch import nn


@models.register("resnet")
class ResNet(ModelSpec):
    """A stem, three groups of (depth - 2) / 6 basic blocks at widths w, 2w, 4w, mean pooling, one linear layer.

    ``shortcut`` says what happens where the shape changes: ``pad`` subsamples and pads with zero channels (option A, no
    parameters, the paper's CIFAR networks), ``conv`` is a 1x1 convolution (option B, here without batch norm).
    """

    takes: ClassVar[tuple[Kind, ...]] = ("image",)
    depth: int = Field(default=20, ge=8)
    width: int = Field(default=16, ge=1)
    stem_stride: int = Field(default=1, ge=1, le=4)
    shortcut: Literal["pad", "conv"] = "pad"

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if (depth - 2) % 6:
            raise ValueError(f"the depth of a CIFAR ResNet is 6 n + 2 (8, 14, 20, 32, 44, 56, 110), not {depth}")
        return depth

    def num_parameters(self, signature: Signature) -> int:
        total = 9 * signature.inputs[0] * self.width + 2 * self.width
        for fan_in, fan_out, _ in self._blocks():
            total += 9 * fan_in * fan_out + 9 * fan_out * fan_out + 4 * fan_out
            total += fan_in * fan_out * (self.shortcut == "conv" and fan_in != fan_out)
        return total + (4 * self.width + 1) * signature.outputs

    def module(self, signature: Signature) -> nn.Module:
        from asyncsim.tasks.models.residual import resnet

        return resnet(signature.inputs[0], self.width, self.stem_stride, self._blocks(), self.shortcut, signature.outputs)

    def _blocks(self) -> list[tuple[int, int, int]]:
        """(channels in, channels out, stride) of every block."""
        width, each = self.width, (self.depth - 2) // 6
        blocks = [(width, width, 1)] * each
        for group in (2 * width, 4 * width):
            blocks += [(group // 2, group, 2)] + [(group, group, 1)] * (each - 1)
        return blocks


@models.register("resnet8")
class ResNet8(ResNet):
    """A ResNet small enough for a laptop: 19,714 parameters on 1x28x28 with 10 classes."""

    depth: int = Field(default=8, ge=8)
    width: int = Field(default=8, ge=1)
    stem_stride: int = Field(default=2, ge=1, le=4)
    shortcut: Literal["pad", "conv"] = "conv"


@models.register("resnet20")
class ResNet20(ResNet):
    """A ResNet of depth 20: 269,722 parameters on CIFAR-10."""

    depth: int = Field(default=20, ge=8)


@models.register("resnet56")
class ResNet56(ResNet):
    """A ResNet of depth 56: 853,018 parameters on CIFAR-10."""

    depth: int = Field(default=56, ge=8)
