"""Read NumPy's files (.npy, and .npz of plain arrays) without running code, and without relying on the sizes that a header
announces."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import numpy as np

from asyncsim.errors import UserError
from asyncsim.userfiles import regular


def read_npy(path: Path, most: int) -> np.ndarray:
    """The array in a file of at most ``most`` bytes. Raises ``UserError``."""
    size = regular(path, most).stat().st_size
    try:
        with path.open("rb") as file:
            return _array(file, size)
    except (OSError, EOFError, ValueError, MemoryError) as error:
        raise UserError(f"{path}: cannot be read as a NumPy array: {error}") from None


def read_npz(path: Path, names: Iterable[str], most: int) -> dict[str, np.ndarray]:
    """The arrays ``names`` of an archive of at most ``most`` bytes when unpacked. Raises ``UserError``, also if one of them is
    missing."""
    try:
        with zipfile.ZipFile(regular(path, most)) as archive:
            members = {item.filename.removesuffix(".npy"): item for item in archive.infolist()}
            lacking = [name for name in names if name not in members]
            if lacking:
                raise UserError(f"{path} lacks {', '.join(lacking)}; it holds {', '.join(members) or 'nothing'}")
            unpacked = sum(members[name].file_size for name in names)
            if unpacked > most:
                raise UserError(f"{path}: has {unpacked:,} bytes when unpacked; at most {most:,} are read")
            found = {}
            for name in names:
                with archive.open(members[name]) as file:
                    found[name] = _array(file, members[name].file_size)
            return found
    except (OSError, EOFError, ValueError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        told = "it is encrypted" if "encrypted" in str(error) else error
        raise UserError(f"{path} cannot be read as an .npz file of plain arrays: {told}") from None


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The array in ``size`` bytes. Raises ``ValueError``, before anything is allocated, if its header announces more than that.
    """
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read_header is None:
        raise ValueError(f"version {version[0]}.{version[1]} of the format is not one of plain arrays")
    try:
        shape, columns_first, dtype = read_header(file)
    except Exception:  # it is parsed as Python, and a damaged one raises what Python's parsers do
        raise ValueError("its header is damaged") from None
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    announced = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or announced > size:
        raise ValueError(f"it announces an array of shape {shape} and has {size:,} bytes")
    content = file.read(announced)
    if len(content) != announced:
        raise ValueError(f"it announces {announced:,} bytes and has {len(content):,}")
    array = np.frombuffer(bytearray(content), dtype)
    return array.reshape(shape[::-1]).T if columns_first else array.reshape(shape)
