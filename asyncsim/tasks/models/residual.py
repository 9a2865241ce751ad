"""The modules of a CIFAR ResNet."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BasicBlock(nn.Module):
    """conv-norm-relu-conv-norm, plus the shortcut, then relu: ``(B, c_in, h, w) -> (B, c_out, h / stride, w / stride)``."""

    def __init__(self, fan_in: int, fan_out: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(fan_in, fan_out, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(fan_out)
        self.conv2 = nn.Conv2d(fan_out, fan_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(fan_out)
        self.project = nn.Conv2d(fan_in, fan_out, 1, stride=stride, bias=False) if self._changes(shortcut, "conv") else None
        self.stride = stride
        self.extra = fan_out - fan_in

    def _changes(self, shortcut: str, wanted: str) -> bool:
        return shortcut == wanted and self.conv1.in_channels != self.conv1.out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        if self.project is not None:
            x = self.project(x)
        elif self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.extra // 2, self.extra - self.extra // 2))
        return torch.relu(y + x)


def resnet(
    channels: int, width: int, stem_stride: int, blocks: list[tuple[int, int, int]], shortcut: str, outputs: int
) -> nn.Sequential:
    """The whole network, ``(B, channels, H, W) -> (B, outputs)``, with He's initial values for convolutions."""
    module = nn.Sequential(
        nn.Conv2d(channels, width, 3, stride=stem_stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        *(BasicBlock(fan_in, fan_out, stride, shortcut) for fan_in, fan_out, stride in blocks),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(blocks[-1][1], outputs),
    )
    he(module)
    return module


def he(module: nn.Module) -> None:
    """He et al. 2015 normal initial values (fan out) for every convolution of ``module``."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
