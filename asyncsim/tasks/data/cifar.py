"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) in their published layouts: Python or binary version, unpacked or as archive."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from asyncsim.errors import UserError
from asyncsim.tasks.data import npz
from asyncsim.tasks.data.arrays import Arrays, Part
from asyncsim.tasks.data.search import is_file, missing, roots, verify
from asyncsim.tasks.data.unpickle import unpickle
from asyncsim.userfiles import MEGABYTE, read_bytes, regular

PIXELS = 3 * 32 * 32
MOST_BYTES = 1_000 * MEGABYTE


@dataclass(frozen=True)
class Layout:
    """One data set's files. MD5 by member of the Python version; bytes before the pixels of a binary record, the label last."""

    name: str
    classes: int
    python: dict[str, str]
    binary: dict[str, int]
    """Binary members and their number of records. In both dictionaries the last member is the test set."""
    key: bytes
    label_bytes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def folders(self) -> tuple[str, str]:
        return ("cifar-10-batches-py", "cifar-10-batches-bin") if self.classes == 10 else ("cifar-100-python", "cifar-100-binary")

    @property
    def archives(self) -> tuple[str, str]:
        return f"cifar-{self.classes}-python.tar.gz", f"cifar-{self.classes}-binary.tar.gz"


CIFAR10 = Layout(
    name="CIFAR-10",
    classes=10,
    python={
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    binary={**{f"data_batch_{index}.bin": 10_000 for index in range(1, 6)}, "test_batch.bin": 10_000},
    key=b"labels",
    label_bytes=1,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
CIFAR100 = Layout(
    name="CIFAR-100",
    classes=100,
    python={"train": "16019d7e3df5f24257cddd939b257f8d", "test": "f0ef6b0ae62326f3e7ffdfab6717acfc"},
    binary={"train.bin": 50_000, "test.bin": 10_000},
    key=b"fine_labels",
    label_bytes=2,
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)
LAYOUTS = {10: CIFAR10, 100: CIFAR100}


def cifar(classes: int, data_dir: str | None, check: bool) -> Arrays:
    """The first copy found, uint8 3x32x32. DataMissing, ChecksumError, or UserError for an unusable file."""
    layout, tried = LAYOUTS[classes], []
    for root in roots(data_dir):
        for place in (root / layout.folders[0], root / layout.folders[1], root, *(root / name for name in layout.archives)):
            tried.append(place)
            version = _version(layout, place, all if place == root else any)
            if version:
                return _load(classes, version, place, _modified(place), check)
        tried.append(root / f"cifar{classes}.npz")
        if is_file(tried[-1]):
            return npz.load(tried[-1], (3, 32, 32), classes)
    get = f"{layout.archives[0]} from https://www.cs.toronto.edu/~kriz/cifar.html"
    raise missing(layout.name, get, tried, "mnistm5k")


def _version(layout: Layout, place: Path, enough: Callable[[Iterable[bool]], bool]) -> str:
    """Which version lies at ``place``, by the presence of ``all`` or ``any`` of its members; empty for none."""
    if is_file(place):
        return "python" if "python" in place.name else "binary"
    if enough(is_file(place / name) for name in layout.python):
        return "python"
    return "binary" if enough(is_file(place / name) for name in layout.binary) else ""


def _modified(place: Path) -> int:
    return sum(path.stat().st_mtime_ns for path in (place.iterdir() if place.is_dir() else [place]))


@lru_cache(maxsize=2)
def _load(classes: int, version: str, place: Path, modified: int, check: bool) -> Arrays:
    layout = LAYOUTS[classes]
    members = list(layout.python if version == "python" else layout.binary)
    read = _python if version == "python" else _binary
    parts = [read(layout, f"{place}/{name}", name, data, check) for name, data in _contents(place, members)]
    train = np.concatenate([images for images, _ in parts[:-1]]), np.concatenate([labels for _, labels in parts[:-1]])
    return Arrays(train, parts[-1], divisor=255, mean=layout.mean, std=layout.std)


def _member(archive: tarfile.TarFile, item: tarfile.TarInfo) -> bytes:
    member = archive.extractfile(item)
    assert member is not None, "it is a file"
    return member.read()


def _contents(place: Path, members: list[str]) -> list[tuple[str, bytes]]:
    try:
        if place.is_dir():
            return [(name, read_bytes(place / name, MOST_BYTES)) for name in members]
        with tarfile.open(regular(place, MOST_BYTES)) as archive:
            files = {}
            for item in archive:
                if item.offset_data + item.size > MOST_BYTES:
                    raise UserError(f"{place} has more than {MOST_BYTES:,} bytes when unpacked, which is the most that are read")
                if item.isfile():
                    files[Path(item.name).name] = item
            lacking = [name for name in members if name not in files]
            if lacking:
                raise UserError(f"{place} lacks {', '.join(lacking)}; get it again")
            return [(name, _member(archive, files[name])) for name in members]
    except (OSError, EOFError, tarfile.TarError, zlib.error, ValueError) as error:
        raise UserError(f"{place} cannot be read: {error}; get it again") from error


def _python(layout: Layout, path: str, name: str, data: bytes, check: bool) -> Part:
    verify(path, data, layout.python[name] if check else None)
    content = unpickle(path, data)
    images, labels = content.get(b"data"), content.get(layout.key)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2 or images.shape[1] != PIXELS:
        raise UserError(f"{path}: `data` is not an array of bytes of shape (n, {PIXELS})")
    try:
        numbers = np.asarray(labels, dtype=np.int64)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: `{layout.key.decode()}` is not a list of class numbers") from error
    return _checked(layout, path, images, numbers)


def _binary(layout: Layout, path: str, name: str, data: bytes, check: bool) -> Part:
    record = layout.label_bytes + PIXELS
    expected = layout.binary[name] * record
    if not data or len(data) % record or (check and len(data) != expected):
        raise UserError(f"{path} has {len(data):,} bytes, expected {expected:,} ({record:,} a record); get it again")
    records = np.frombuffer(data, dtype=np.uint8).reshape(-1, record)
    return _checked(layout, path, records[:, layout.label_bytes :], records[:, layout.label_bytes - 1].astype(np.int64))


def _checked(layout: Layout, path: str, images: np.ndarray, labels: np.ndarray) -> Part:
    if not len(images) or labels.shape != (len(images),):
        raise UserError(
            f"{path} holds {len(images)} images and labels of shape {labels.shape}; equally many, at least 1, allowed"
        )
    npz.check_labels(path, labels, layout.classes)
    return images.reshape(-1, 3, 32, 32), labels
