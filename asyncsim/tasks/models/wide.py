"""The modules of a wide residual network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asyncsim.tasks.dropout import Dropout
from asyncsim.tasks.models.residual import he


class PreActivationBlock(nn.Module):
    """norm-relu-conv-norm-relu-dropout-conv plus the shortcut: ``(B, c_in, h, w) -> (B, c_out, h / stride, w / stride)``.

    Where the number of channels changes, the shortcut is a 1x1 convolution of the activated input.
    """

    def __init__(self, fan_in: int, fan_out: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(fan_in)
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(fan_out)
        self.dropout = Dropout(dropout)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.project = nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False) if fan_in != fan_out else None
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        active = torch.relu(self.norm1(x))
        if self.project is not None:
            x = self.project(active)
        elif self.stride > 1:
            x = x[:, :, :: self.stride, :: self.stride]
        y = torch.relu(self.norm2(self.conv1(active)))
        return x + self.conv2(self.dropout(y))


def wrn(channels: int, blocks: list[tuple[int, int, int]], dropout: float, outputs: int) -> nn.Sequential:
    """The whole network, ``(B, channels, H, W) -> (B, outputs)``."""
    features = blocks[-1][1]
    module = nn.Sequential(
        nn.Conv2d(channels, blocks[0][0], 3, padding=1, bias=False),
        *(PreActivationBlock(fan_in, fan_out, stride, dropout) for fan_in, fan_out, stride in blocks),
        nn.BatchNorm2d(features),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(features, outputs),
    )
    he(module)
    return module
