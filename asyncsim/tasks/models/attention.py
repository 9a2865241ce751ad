"""The modules of a causal Transformer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asyncsim.tasks.dropout import Dropout


class Embed(nn.Module):
    """Symbols of a text and learned positions: ``(B, T) -> (B, T, D)``."""

    def __init__(self, vocabulary: int, context: int, dim: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, dim)
        self.position = nn.Parameter(torch.empty(context, dim))
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.token(x) + self.position[: x.shape[1]])


class Block(nn.Module):
    """Attention to what came before, then two linear layers, each on a normalised copy and added: ``(B, T, D) -> (B, T, D)``."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, 4 * dim)
        self.down = nn.Linear(4 * dim, dim)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        qkv = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, dim // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, D / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.dropout(self.out(mixed.transpose(1, 2).reshape(batch, length, dim)))
        return x + self.dropout(self.down(F.gelu(self.up(self.norm2(x)))))


def transformer(vocabulary: int, context: int, layers: int, dim: int, heads: int, dropout: float) -> nn.Sequential:
    """The whole network, ``(B, T) -> (B, T, V)``; weights N(0, 0.02), biases 0, as in GPT-2."""
    module = nn.Sequential(
        Embed(vocabulary, context, dim, dropout),
        *(Block(dim, heads, dropout) for _ in range(layers)),
        nn.LayerNorm(dim),
        nn.Linear(dim, vocabulary),
    )
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
    return module
