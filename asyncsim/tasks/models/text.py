"""Language models."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from asyncsim.tasks.spec import Signature, TextModel, models

if TYPE_CHECKING:
    from torch import nn


@models.register("char_mlp")
class CharMlp(TextModel):
    """An embedding of the last ``context`` characters and one hidden layer (Bengio et al. 2003); predicts the next one."""

    context: int = Field(default=12, ge=1, le=1_000_000)
    embedding: int = Field(default=16, ge=1)
    hidden: int = Field(default=128, ge=1)

    def num_parameters(self, signature: Signature) -> int:
        vocabulary = signature.outputs
        flat = self.context * self.embedding
        return vocabulary * self.embedding + (flat + 1) * self.hidden + (self.hidden + 1) * vocabulary

    def module(self, signature: Signature) -> nn.Module:
        from torch import nn

        return nn.Sequential(
            nn.Embedding(signature.outputs, self.embedding),
            nn.Flatten(),
            nn.Linear(self.context * self.embedding, self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, signature.outputs),
        )


@models.register("transformer")
class Transformer(TextModel):
    """A causal pre-norm Transformer with learned positions and an untied head; predicts at every position."""

    dense: ClassVar[bool] = True
    context: int = Field(default=48, ge=1, le=1_000_000)
    layers: int = Field(default=2, ge=1, le=1000)
    dim: int = Field(default=64, ge=1)
    heads: int = Field(default=4, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _even_heads(self) -> Self:
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}")
        return self

    def num_parameters(self, signature: Signature) -> int:
        dim, vocabulary = self.dim, signature.outputs
        block = 4 * dim * (dim + 1) + 8 * dim * dim + 5 * dim + 4 * dim
        return (vocabulary + self.context) * dim + self.layers * block + 2 * dim + (dim + 1) * vocabulary

    def module(self, signature: Signature) -> nn.Module:
        from asyncsim.tasks.models.attention import transformer

        return transformer(signature.outputs, self.context, self.layers, self.dim, self.heads, self.dropout)
