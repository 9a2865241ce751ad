"""The user's files: every layout in miniature, and everything that can be wrong with them."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asyncsim.errors import ChecksumError, DataMissing, UserError
from asyncsim.registries import tasks
from asyncsim.tasks.data import cifar, idx
from asyncsim.tasks.data.unpickle import unpickle


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072)).astype(np.uint8)


def python2_pickle(array: np.ndarray, labels: list[int], key: bytes) -> bytes:
    """Protocol 2 as Python 2 with an old NumPy wrote it: byte strings, `numpy.core`, dtype('u1', 0, 1)."""

    def short(text: bytes) -> bytes:
        return b"U" + bytes([len(text)]) + text

    raw = array.tobytes()
    shape = b"".join(b"M" + struct.pack("<H", size) for size in array.shape) + b"\x86"
    dtype = b"cnumpy\ndtype\n" + short(b"u1") + b"K\x00K\x01\x87R" + b"(K\x03" + short(b"|")
    dtype += b"NNN" + b"J\xff\xff\xff\xff" * 2 + b"K\x00tb"
    data = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85" + short(b"b") + b"\x87R"
    data += b"(K\x01" + shape + dtype + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + short(b"data") + data + short(key) + numbers + b"u."


def write_python(folder: Path, layout: cifar.Layout, count: int = 20) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    md5 = {}
    for number, name in enumerate(layout.python):
        data = python2_pickle(images(count, number), [(number + i) % layout.classes for i in range(count)], layout.key)
        (folder / name).write_bytes(data)
        md5[name] = hashlib.md5(data).hexdigest()
    return md5


def write_binary(folder: Path, layout: cifar.Layout, count: int = 20) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(layout.binary):
        labels = np.full((count, layout.label_bytes), 3, dtype=np.uint8)
        labels[:, -1] = (number + np.arange(count)) % layout.classes
        (folder / name).write_bytes(np.concatenate([labels, images(count, number)], axis=1).tobytes())


def build(kind: str, **fields):
    return tasks.parse({"kind": kind, "model": "softmax", "batch": 4, "validation": 0, **fields}).build(0)


@pytest.mark.parametrize("classes", [10, 100])
@pytest.mark.parametrize("version", ["python", "binary", "python archive", "binary archive", "folder itself"])
def test_cifar_layouts_hold_the_same(tmp_path, monkeypatch, classes, version):
    layout = cifar.LAYOUTS[classes]
    folder = tmp_path / layout.folders["binary" in version]
    if "binary" in version:
        write_binary(folder, layout)
    else:
        md5 = write_python(folder, layout)
        monkeypatch.setitem(cifar.LAYOUTS, classes, replace(layout, python=md5))
    data_dir = folder if version == "folder itself" else tmp_path
    if "archive" in version:
        data_dir = tmp_path / "packed"
        data_dir.mkdir()
        with tarfile.open(data_dir / layout.archives["binary" in version], "w:gz") as archive:
            archive.add(folder, arcname=folder.name)
    task = build(f"cifar{classes}", data_dir=str(data_dir), verify="binary" not in version)
    parts = len(layout.python)
    inputs, targets = task.splits["train"]
    assert inputs.shape == (20 * (parts - 1), 3, 32, 32)
    assert targets[:3].tolist() == [0, 1, 2]
    expected = (images(20, parts - 1).reshape(-1, 3, 32, 32)[5, 2] / 255 - layout.mean[2]) / layout.std[2]
    np.testing.assert_allclose(task.splits["test"][0][5, 2].numpy(), expected, rtol=1e-4, atol=1e-5)
    assert task.batch(0, 0)[0].shape == (4, 3, 32, 32)


def test_checksums_come_before_unpickling(tmp_path):
    write_python(tmp_path / "cifar-10-batches-py", cifar.CIFAR10)
    with pytest.raises(ChecksumError) as error:
        build("cifar10", data_dir=str(tmp_path))
    message = str(error.value)
    assert "data_batch_1" in message
    assert cifar.CIFAR10.python["data_batch_1"] in message
    assert "task.verify: false" in message
    assert build("cifar10", data_dir=str(tmp_path), verify=False).train_size == 100


class Planted:
    def __reduce__(self):
        return os.system, ("touch planted",)


def test_a_planted_pickle_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_python(tmp_path / "cifar-10-batches-py", cifar.CIFAR10)
    for protocol in (0, 2, 4):
        (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps({b"data": Planted()}, protocol))
        with pytest.raises(UserError, match=r"names (posix|nt)\.system"):
            build("cifar10", data_dir=str(tmp_path), verify=False)
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    "value", [eval, np.load, Planted, np.array([Planted()], dtype=object)], ids=["eval", "load", "class", "array"]
)
def test_other_names_are_refused(value):
    with pytest.raises(UserError, match="refused"):
        unpickle("file", pickle.dumps({"data": value}, 2))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_todays_numpy_are_read(protocol):
    if protocol == 5:
        with pytest.raises(UserError, match="refused"):
            unpickle("file", pickle.dumps({"data": images(3)}, protocol))
        return
    found = unpickle("file", pickle.dumps({"data": images(3)}, protocol))
    np.testing.assert_array_equal(found[b"data"], images(3))


@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
@pytest.mark.parametrize("damage", ["empty", "cut", "list", "no data", "other shape", "labels", "range", "count"])
def test_damaged_cifar_is_one_message(tmp_path, name, damage):
    folder = tmp_path / "cifar-10-batches-py"
    write_python(folder, cifar.CIFAR10)
    whole = (folder / name).read_bytes()
    content = {
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "list": pickle.dumps([1], 2),
        "no data": pickle.dumps({"labels": [1]}, 2),
        "other shape": pickle.dumps({"data": images(2)[:, :100], "labels": [1, 2]}, 2),
        "labels": pickle.dumps({"data": images(2), "labels": ["a", {}]}, 2),
        "range": pickle.dumps({"data": images(2), "labels": [1, 10]}, 2),
        "count": pickle.dumps({"data": images(2), "labels": [1]}, 2),
    }[damage]
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        build("cifar10", data_dir=str(tmp_path), verify=False)


def test_lacking_and_damaged_members(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_python(folder, cifar.CIFAR10)
    (folder / "data_batch_4").unlink()
    with pytest.raises(UserError, match="data_batch_4"):
        build("cifar10", data_dir=str(tmp_path), verify=False)
    other = tmp_path / "other"
    other.mkdir()
    with tarfile.open(other / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    with pytest.raises(UserError, match="lacks data_batch_4"):
        build("cifar10", data_dir=str(other), verify=False)
    whole = (other / "cifar-10-python.tar.gz").read_bytes()
    for content in (b"", b"no archive", whole[: len(whole) // 2]):
        (other / "cifar-10-python.tar.gz").write_bytes(content)
        with pytest.raises(UserError, match="get it again"):
            build("cifar10", data_dir=str(other), verify=False)


def test_binary_sizes(tmp_path):
    write_binary(tmp_path / "cifar-10-batches-bin", cifar.CIFAR10)
    with pytest.raises(UserError, match="expected 30,730,000"):
        build("cifar10", data_dir=str(tmp_path))
    (tmp_path / "cifar-10-batches-bin" / "data_batch_1.bin").write_bytes(b"\x00" * 3074)
    with pytest.raises(UserError, match="3,074 bytes"):
        build("cifar10", data_dir=str(tmp_path), verify=False)


@pytest.mark.parametrize("kind", ["cifar10", "cifar100", "idx", {"kind": "npz", "file": "my.npz", "shape": [4], "classes": 2}])
def test_missing_data_names_every_place_and_a_way_out(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("ASYNCSIM_DATA", str(tmp_path / "variable"))
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "debian")
    fields = kind if isinstance(kind, dict) else {"kind": kind, "model": "softmax"}
    with pytest.raises(DataMissing) as error:
        tasks.parse({**fields, "data_dir": str(tmp_path / "field")}).build(0)
    message = str(error.value)
    cache = str(Path("~/.cache/asyncsim").expanduser())
    for part in ("field", "variable", cache, "task.data_dir", "ASYNCSIM_DATA", "needs no data"):
        assert part in message
    assert any(f"`{name}`" in message for name in ("mnist5k", "mnistm5k"))


@pytest.mark.parametrize("kind", ["cifar10", "idx"])
def test_an_impossible_folder_is_a_missing_one(kind, monkeypatch, tmp_path):
    monkeypatch.setattr(idx, "DEBIAN", tmp_path)
    with pytest.raises(DataMissing):
        build(kind, data_dir="x" * 5000)


def test_places_are_searched_in_order(tmp_path, monkeypatch):
    for place in ("field", "variable"):
        (tmp_path / place).mkdir()
        save_npz(tmp_path / place / "my.npz", x_train=np.full((8, 4), float(place == "field"), dtype=np.float32))
    monkeypatch.setenv("ASYNCSIM_DATA", str(tmp_path / "variable"))
    assert float(npz_task("my.npz").splits["train"][0].max()) == 0
    assert float(npz_task("my.npz", data_dir=str(tmp_path / "field")).splits["train"][0].max()) == 1


def write_idx(folder: Path, packed: bool = False, train: int = 12) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in idx.FILES:
        count = train if "train" in name else 6
        sizes = (count, 28, 28) if "images" in name else (count,)
        body = (np.arange(np.prod(sizes)) % (256 if "images" in name else 10)).astype(np.uint8).tobytes()
        data = bytes([0, 0, 8, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes) + body
        (folder / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(data) if packed else data)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("below", ["", "mnist", "MNIST/raw"])
def test_idx(tmp_path, packed, below):
    write_idx(tmp_path / below, packed)
    task = build("idx", dataset="mnist", data_dir=str(tmp_path), verify=False)
    assert task.splits["train"][0].shape == (12, 1, 28, 28)
    assert float(task.splits["train"][0][0, 0, 0, 5]) == pytest.approx(5 / 255)
    assert task.splits["test"][1].tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(ChecksumError, match="train-images"):
        build("idx", dataset="mnist", data_dir=str(tmp_path))


def test_debians_fashion_is_found_by_itself(tmp_path, monkeypatch):
    write_idx(tmp_path / "debian", packed=True)
    monkeypatch.setattr(idx, "DEBIAN", tmp_path / "debian")
    assert build("idx", verify=False).train_size == 12


def test_damaged_idx_is_one_message(tmp_path):
    for name in idx.FILES:
        for content in (b"", b"\x1f\x8b\x08broken", b"\x00\x00\x08", b"\x00\x00\x08\x03" + struct.pack(">3I", 2, 28, 28)):
            write_idx(tmp_path)
            (tmp_path / name).unlink()
            (tmp_path / f"{name}.gz").write_bytes(content if content[:1] == b"\x1f" else gzip.compress(content))
            with pytest.raises(UserError, match=name):
                build("idx", dataset="other", data_dir=str(tmp_path))
            (tmp_path / f"{name}.gz").unlink()
    write_idx(tmp_path)
    with pytest.raises(UserError, match=r"field `task.shape` says \(1, 8, 8\)"):
        build("idx", dataset="other", data_dir=str(tmp_path), shape=[1, 8, 8])
    with pytest.raises(UserError, match="labels run from 0 to 9; 0 to 3 allowed"):
        build("idx", dataset="other", data_dir=str(tmp_path), classes=4)


def save_npz(path: Path, **changed: np.ndarray) -> None:
    arrays = {
        "x_train": np.zeros((8, 4), np.float32),
        "y_train": np.arange(8) % 2,
        "x_test": np.zeros((4, 4), np.float32),
        "y_test": np.arange(4) % 2,
    }
    np.savez(path, **(arrays | changed))


def npz_task(file: str | Path, **fields):
    settings = {"kind": "npz", "file": str(file), "shape": [4], "classes": 2, "batch": 4, "validation": 0}
    return tasks.parse(settings | fields).build(0)


@pytest.mark.parametrize("stored", ["NCHW", "NHWC"])
def test_npz_images(tmp_path, stored):
    wanted = np.random.default_rng(0).integers(0, 256, (8, 3, 5, 6)).astype(np.uint8)
    kept = wanted if stored == "NCHW" else wanted.transpose(0, 2, 3, 1)
    save_npz(tmp_path / "my.npz", x_train=kept, x_test=kept[:4], y_train=(np.arange(8) % 2)[:, None])
    task = npz_task(tmp_path / "my.npz", shape=[3, 5, 6])
    np.testing.assert_allclose(task.splits["train"][0].numpy(), wanted / 255, rtol=1e-6)
    assert task.splits["train"][1].shape == (8,)


def test_npz_without_channel(tmp_path):
    save_npz(tmp_path / "my.npz", x_train=np.ones((8, 5, 6)), x_test=np.ones((4, 5, 6)))
    assert npz_task(tmp_path / "my.npz", shape=[1, 5, 6]).splits["test"][0].shape == (4, 1, 5, 6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x_train": np.zeros((8, 5))}, r"have shape \(5,\), and the field `task.shape` says \(4,\)"),
        ({"y_train": np.arange(8)}, "labels run from 0 to 7; 0 to 1 allowed"),
        ({"y_train": -np.arange(8)}, "labels run from -7 to 0"),
        ({"y_train": np.arange(7)}, "one per sample"),
        ({"y_train": np.zeros(8)}, "integers of shape"),
        ({"x_train": np.full((8, 4), np.nan, np.float32)}, "not finite"),
        ({"x_train": np.array([["a"] * 4] * 8)}, "bytes, integers or floats"),
        ({"x_train": np.zeros((0, 4), np.float32), "y_train": np.zeros(0, int)}, "at least 1"),
        ({"x_train": np.array([[None] * 4] * 8)}, "plain arrays"),
        ({"x_train": np.zeros((8, 4), np.uint8)}, "one type allowed"),
    ],
)
def test_npz_that_does_not_fit(tmp_path, changed, message):
    save_npz(tmp_path / "my.npz", **changed)
    with pytest.raises(UserError, match=message):
        npz_task(tmp_path / "my.npz")


def test_npz_that_is_none(tmp_path):
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    save_npz(tmp_path / "whole.npz")
    whole = (tmp_path / "whole.npz").read_bytes()
    for content in (b"", b"text", buffer.getvalue(), whole[: len(whole) // 2], pickle.dumps(Planted())):
        (tmp_path / "my.npz").write_bytes(content)
        with pytest.raises(UserError, match=r"my\.npz"):
            npz_task(tmp_path / "my.npz")
    np.savez(tmp_path / "few.npz", x_train=np.zeros((8, 4)))
    with pytest.raises(UserError, match="lacks y_train, x_test, y_test; it holds x_train"):
        npz_task(tmp_path / "few.npz")


def test_a_file_written_anew_is_read_anew(tmp_path):
    save_npz(tmp_path / "my.npz")
    first = npz_task(tmp_path / "my.npz")
    assert npz_task(tmp_path / "my.npz").splits is first.splits
    save_npz(tmp_path / "my.npz", x_train=np.ones((8, 4), np.float32))
    os.utime(tmp_path / "my.npz", ns=(1, 1))
    assert float(npz_task(tmp_path / "my.npz").splits["train"][0].max()) == 1
