"""Models: settings (free of torch) and the modules they build. Importing this registers them all."""

from __future__ import annotations

from asyncsim.tasks.models.clicks import DeepFm
from asyncsim.tasks.models.cnn import Cnn
from asyncsim.tasks.models.dense import Mlp, Softmax
from asyncsim.tasks.models.resnet import ResNet, ResNet8, ResNet20, ResNet56
from asyncsim.tasks.models.text import CharMlp, Transformer
from asyncsim.tasks.models.wrn import Wrn, Wrn164

__all__ = [
    "CharMlp", "Cnn", "DeepFm", "Mlp", "ResNet", "ResNet8", "ResNet20", "ResNet56", "Softmax", "Transformer", "Wrn", "Wrn164",
]  # fmt: skip
