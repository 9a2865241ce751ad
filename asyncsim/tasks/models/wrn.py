"""Wide residual networks (Zagoruyko & Komodakis 2016, https://arxiv.org/abs/1605.07146)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator

from asyncsim.tasks.spec import Kind, ModelSpec, Signature, models

if TYPE_CHECKING:
    from torch import nn


@models.register("wrn")
class Wrn(ModelSpec):
    """WRN-depth-width: three groups of (depth - 4) / 6 pre-activation blocks at widths 16k, 32k, 64k, 1x1 shortcuts."""

    takes: ClassVar[tuple[Kind, ...]] = ("image",)
    depth: int = Field(default=16, ge=10)
    width: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if (depth - 4) % 6:
            raise ValueError(f"the depth of a WRN is 6 n + 4 (10, 16, 22, 28, 40), not {depth}")
        return depth

    def num_parameters(self, signature: Signature) -> int:
        total = 9 * signature.inputs[0] * 16
        for fan_in, fan_out, _ in self._blocks():
            total += 2 * fan_in + 9 * fan_in * fan_out + 2 * fan_out + 9 * fan_out * fan_out
            total += fan_in * fan_out * (fan_in != fan_out)
        return total + 128 * self.width + (64 * self.width + 1) * signature.outputs

    def module(self, signature: Signature) -> nn.Module:
        from asyncsim.tasks.models.wide import wrn

        return wrn(signature.inputs[0], self._blocks(), self.dropout, signature.outputs)

    def _blocks(self) -> list[tuple[int, int, int]]:
        """(channels in, channels out, stride) of every block."""
        each, before, blocks = (self.depth - 4) // 6, 16, []
        for group, stride in ((16, 1), (32, 2), (64, 2)):
            after = group * self.width
            blocks += [(before, after, stride)] + [(after, after, 1)] * (each - 1)
            before = after
        return blocks


@models.register("wrn_16_4")
class Wrn164(Wrn):
    """WRN-16-4: 2,748,890 parameters on CIFAR-10."""
