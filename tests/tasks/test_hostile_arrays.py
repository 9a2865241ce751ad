"""npz and idx files that announce more than they hold, or unpack to more than anybody has."""

from __future__ import annotations

import gzip
import io
import zipfile

import numpy as np
import pytest

from asyncsim.errors import UserError
from asyncsim.numpyfiles import read_npy, read_npz
from asyncsim.tasks.data import idx, npz


def archive(path, **arrays):
    fitting = {"x_train": np.zeros((6, 4)), "y_train": np.zeros(6, int), "x_test": np.zeros((3, 4)), "y_test": np.zeros(3, int)}
    np.savez(path, **(fitting | arrays))
    return path


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x_train": np.float64(3)}, "x_train has shape \\(\\)"),
        ({"y_test": np.int64(3)}, "y_test is int64 of shape \\(\\)"),
        ({"x_train": np.array([None] * 6)}, "Python objects"),
        ({"x_train": np.array(["a"] * 6)}, "x_train is <U1"),
        ({"x_test": np.zeros((3, 4), [("a", int)])}, "x_test is"),
        ({"x_test": np.zeros((0, 4))}, "at least 1 sample"),
    ],
)
def test_arrays_that_are_none(arrays, words, tmp_path):
    with pytest.raises(UserError, match=words):
        npz.load(archive(tmp_path / "x.npz", **arrays), (4,), 3)


def test_npz_reads_what_numpy_wrote(tmp_path):
    """In either order of memory, packed or not."""
    values = np.arange(12.0).reshape(3, 4)
    np.savez_compressed(tmp_path / "x.npz", a=values, b=np.asfortranarray(values), c=values.astype(np.uint8)[:0])
    found = read_npz(tmp_path / "x.npz", ("a", "b", "c"), 10_000)
    assert np.array_equal(found["a"], values)
    assert np.array_equal(found["b"], values)
    assert found["c"].shape == (0, 4)
    found["a"][0] = 1  # and it is one's own


def test_a_header_that_announces_too_much(tmp_path):
    """Refused before anything is allocated."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    (tmp_path / "x.npy").write_bytes(header.getvalue() + b"12345678")
    with pytest.raises(UserError, match="announces an array of shape"):
        read_npy(tmp_path / "x.npy", 10**9)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("a.npy", header.getvalue() + b"12345678")
    with pytest.raises(UserError, match="announces an array of shape"):
        read_npz(tmp_path / "x.npz", ("a",), 10**9)


def test_damaged_headers(tmp_path):
    """NumPy lets what Python's parsers raise through."""
    np.save(tmp_path / "x.npy", np.zeros(3))
    content = (tmp_path / "x.npy").read_bytes()
    for wrong in (b"(6workers, }" + b"[" * 20, b"(((((((((", b"'\n", b"(True,)", b"(-3,)"):
        (tmp_path / "x.npy").write_bytes(content.replace(b"(3,), }".ljust(len(wrong)), wrong))
        with pytest.raises(UserError, match="cannot be read as a NumPy array"):
            read_npy(tmp_path / "x.npy", 10**6)


def test_a_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros(100_000))
    with pytest.raises(UserError, match="800,128 bytes when unpacked; at most 100,000"):
        read_npz(tmp_path / "x.npz", ("a",), 100_000)
    monkeypatch.setattr(idx, "MOST_BYTES", 100_000)
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(200_000)))
    with pytest.raises(UserError, match="more than 100,000 bytes when unpacked"):
        idx._read(tmp_path / "x.gz", None)


@pytest.mark.parametrize("length", range(0, 1300, 97))
def test_truncated_anywhere(length, tmp_path):
    content = archive(tmp_path / "x.npz").read_bytes()
    (tmp_path / "y.npz").write_bytes(content[:length])
    with pytest.raises(UserError, match=r"cannot be read as an \.npz file"):
        npz.load(tmp_path / "y.npz", (4,), 3)
