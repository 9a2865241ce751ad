"""A user's own classification data: one ``.npz`` with ``x_train``, ``y_train``, ``x_test``, ``y_test``."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from asyncsim.errors import UserError
from asyncsim.numpyfiles import read_npz
from asyncsim.tasks.data.arrays import Arrays, Part
from asyncsim.userfiles import MEGABYTE, read_start

NAMES = tuple(f"{part}_{split}" for split in ("train", "test") for part in "xy")
MOST_BYTES = 64_000 * MEGABYTE


def load(path: Path, shape: tuple[int, ...], classes: int) -> Arrays:
    """Samples of ``shape`` ``(d,)`` or ``(C, H, W)``; images may be stored ``(n, H, W, C)`` or, with one channel, ``(n, H, W)``.

    Bytes are divided by 255, other numbers taken as they are. UserError where the file is unreadable or does not fit.
    """
    return _load(path, path.stat().st_mtime_ns, shape, classes)


@lru_cache(maxsize=2)
def _load(path: Path, modified: int, shape: tuple[int, ...], classes: int) -> Arrays:
    if read_start(path, 6) == b"\x93NUMPY":
        raise UserError(f"{path} holds a single array; an .npz with x_train, y_train, x_test, y_test allowed")
    x_train, y_train, x_test, y_test = read_npz(path, NAMES, MOST_BYTES).values()
    train = _part(path, "train", x_train, y_train, shape, classes)
    test = _part(path, "test", x_test, y_test, shape, classes)
    if train[0].dtype != test[0].dtype:
        raise UserError(f"{path}: x_train is {train[0].dtype} and x_test {test[0].dtype}; one type allowed")
    return Arrays(train, test, divisor=255 if train[0].dtype == np.uint8 else 1)


def _part(path: Path, split: str, inputs: np.ndarray, labels: np.ndarray, shape: tuple[int, ...], classes: int) -> Part:
    if not inputs.ndim or not len(inputs):
        raise UserError(f"{path}: x_{split} has shape {inputs.shape}; at least 1 sample allowed, in shape (n, ...)")
    if inputs.dtype != np.uint8 and inputs.dtype.kind not in "iuf":
        raise UserError(f"{path}: x_{split} is {inputs.dtype}; bytes, integers or floats allowed")
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        raise UserError(f"{path}: x_{split} holds values that are not finite")
    if labels.dtype.kind not in "iu" or labels.shape not in ((len(inputs),), (len(inputs), 1)):
        raise UserError(
            f"{path}: y_{split} is {labels.dtype} of shape {labels.shape}; "
            f"integers of shape ({len(inputs)},) allowed, one per sample"
        )
    check_labels(f"{path}: y_{split}", labels, classes)
    return _channels_first(path, split, inputs, shape), labels.reshape(-1).astype(np.int64)


def _channels_first(path: Path, split: str, inputs: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    found = inputs.shape[1:]
    if found == shape:
        return inputs
    if len(shape) == 3 and found == (*shape[1:], shape[0]):
        return np.ascontiguousarray(inputs.transpose(0, 3, 1, 2))
    if len(shape) == 3 and shape[0] == 1 and found == shape[1:]:
        return inputs[:, None]
    raise UserError(f"{path}: samples of x_{split} have shape {found}, and the field `task.shape` says {shape}")


def check_labels(what: str, labels: np.ndarray, classes: int) -> None:
    """Raise ``UserError`` unless every label is in 0..classes-1."""
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise UserError(f"{what}: labels run from {labels.min()} to {labels.max()}; 0 to {classes - 1} allowed")
