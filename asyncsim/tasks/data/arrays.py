"""A data set in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from asyncsim.errors import UserError
from asyncsim.streams import Streams

if TYPE_CHECKING:
    from torch import Tensor

Part = tuple["np.ndarray | Tensor", "np.ndarray | Tensor"]
"""The training or the test part of a data set: inputs ``(n, ...)``, and targets ``(n,)`` or ``(n, ...)``."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """Training and test part, and how to turn raw inputs into numbers: ``(x / divisor - mean) / std``, per channel.

    Integer inputs are converted only where ``divisor`` is given; else they stay indices (text). ``labels`` tells whether the
    targets are classes. Tasks on one data set share it, so whoever makes one should return the same object again.
    """

    train: Part
    test: Part
    divisor: float | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    labels: bool = True
    prepared: dict[Any, Any] = field(default_factory=dict, repr=False)
    """Splits made of this data set, as tensors on a device, by the settings that made them."""

    def __post_init__(self) -> None:
        for name, (inputs, targets) in {"training": self.train, "test": self.test}.items():
            if not len(inputs) or len(inputs) != len(targets):
                raise UserError(
                    f"the {name} set has {len(inputs)} inputs and {len(targets)} targets; equally many, at least 1, allowed"
                )

    def split(self, fraction: float) -> dict[str, Part]:
        """``train``, ``test``, and ``validation`` with that fraction of the training part (missing for 0).

        By class with labels (stratified), else the last samples. The same for every seed, so that replicates are compared
        on the same samples. UserError where a part would be empty.
        """
        inputs, targets = self.train
        count = round(fraction * len(inputs))
        if not count:
            return {"train": self.train, "test": self.test}
        if count == len(inputs):
            raise UserError(f"task.validation: {fraction:g} leaves nothing to train on; lower it")
        last = np.arange(len(inputs)) >= len(inputs) - count
        held = held_out(targets, count, "validation") if self.labels else last
        return {
            "train": (inputs[~held], targets[~held]),
            "validation": (inputs[held], targets[held]),
            "test": self.test,
        }


def held_out(labels: np.ndarray | Tensor, count: int, purpose: str) -> np.ndarray:
    """Mask ``(n,)`` of ``count`` samples, each class in proportion (largest remainders first), chosen by a fixed stream."""
    rng = Streams(0)(purpose)
    classes, members = np.unique(labels, return_inverse=True)
    sizes = np.bincount(members)
    exact = sizes * count / len(labels)
    quota = np.floor(exact).astype(int)
    largest = np.argsort(-(exact - quota), kind="stable")[: count - quota.sum()]
    quota[largest] += 1
    mask = np.zeros(len(labels), dtype=bool)
    for index in range(len(classes)):
        mask[rng.permutation(np.flatnonzero(members == index))[: quota[index]]] = True
    return mask


def stratified(inputs: np.ndarray, labels: np.ndarray, test: int) -> tuple[Part, Part]:
    """A training part and a test part of ``test`` samples, the same for every seed."""
    mask = held_out(labels, test, "test")
    return (inputs[~mask], labels[~mask]), (inputs[mask], labels[mask])
