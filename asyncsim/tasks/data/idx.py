"""The idx format of the MNIST family (http://yann.lecun.com/exdb/mnist): big-endian header, then bytes."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import numpy as np

from asyncsim.errors import UserError
from asyncsim.tasks.data.arrays import Arrays
from asyncsim.tasks.data.npz import check_labels
from asyncsim.tasks.data.search import is_file, missing, roots, verify
from asyncsim.userfiles import MEGABYTE, read_bytes, unpacked

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion_mnist": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
"""Of the unpacked bytes: distributions pack them differently."""
MOST_BYTES = 4_000 * MEGABYTE
FOLDERS = {"mnist": ("mnist", "MNIST/raw"), "fashion_mnist": ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw")}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""
GET = {
    "fashion_mnist": "the four files (Debian: `apt install dataset-fashion-mnist`; else https://github.com/zalandoresearch/fashion-mnist)",
    "mnist": "the four files, such as train-images-idx3-ubyte.gz",
    "other": "four files named like MNIST's, such as train-images-idx3-ubyte.gz",
}


def idx(dataset: str, data_dir: str | None, shape: tuple[int, ...], classes: int, check: bool) -> Arrays:
    """The first folder with all four files, each plain or ``.gz``; DataMissing, ChecksumError, or UserError."""
    folders = [root / name for root in roots(data_dir) for name in (".", *FOLDERS.get(dataset, ()))]
    if dataset == "fashion_mnist":
        folders.append(DEBIAN)
    for folder in folders:
        paths = tuple(_packed_or_not(folder / name) for name in FILES)
        if all(map(is_file, paths)):
            return _load(paths, tuple(path.stat().st_mtime_ns for path in paths), dataset, shape, classes, check)
    raise missing(f"The idx data set `{dataset}`", GET[dataset], (folder / f"{FILES[0]}[.gz]" for folder in folders), "mnist5k")


def _packed_or_not(path: Path) -> Path:
    return path if is_file(path) else path.with_name(f"{path.name}.gz")


@lru_cache(maxsize=2)
def _load(
    paths: tuple[Path, ...], modified: tuple[int, ...], dataset: str, shape: tuple[int, ...], classes: int, check: bool
) -> Arrays:
    md5s = MD5.get(dataset) if check else None
    train, train_labels, test, test_labels = (_read(path, md5s[number] if md5s else None) for number, path in enumerate(paths))
    for path, images in ((paths[0], train), (paths[2], test)):
        if (1, *images.shape[1:]) != shape:
            raise UserError(f"{path}: samples have shape {(1, *images.shape[1:])}, and the field `task.shape` says {shape}")
    for path, images, labels in ((paths[1], train, train_labels), (paths[3], test, test_labels)):
        if labels.shape != (len(images),):
            raise UserError(f"{path} holds labels of shape {labels.shape} for {len(images)} images")
        check_labels(str(path), labels, classes)
    return Arrays((train[:, None], train_labels.astype(np.int64)), (test[:, None], test_labels.astype(np.int64)), divisor=255)


def _read(path: Path, md5: str | None) -> np.ndarray:
    """One file's array of bytes."""
    data = read_bytes(path, MOST_BYTES)
    if path.suffix == ".gz":
        data = unpacked(path, data, MOST_BYTES)
    verify(str(path), data, md5)
    dimensions = data[3] if len(data) >= 4 and data[:3] == b"\x00\x00\x08" else 0
    start = 4 + 4 * dimensions
    if not dimensions or len(data) < start:
        raise UserError(f"{path} is not an idx file of bytes")
    sizes = tuple(np.frombuffer(data, ">u4", dimensions, 4).tolist())
    if math.prod(sizes) != len(data) - start or not math.prod(sizes):
        raise UserError(f"{path} announces an array of shape {sizes} and holds {len(data) - start:,} bytes; get it again")
    return np.frombuffer(data, np.uint8, offset=start).reshape(sizes)
