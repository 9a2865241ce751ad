"""Checkpoint files: one line that says what it is, with a hash of the rest; then a NumPy archive. Reading runs no code.

``checkpoints/000012.checkpoint`` is the twelfth of a run. The newest two are kept: should power fail while one is written, the
one before is there.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from asyncsim.errors import UserError
from asyncsim.records.directory import RunDirectory
from asyncsim.userfiles import MEGABYTE, read_bytes

FOLDER = "checkpoints"
FORMAT = 5
KEEP = 2
MOST_BYTES = 100_000 * MEGABYTE
_MAGIC = b"asyncsim checkpoint "


class Damaged(Exception):
    """A checkpoint cannot be read; the message says why."""


def checkpoint_files(run: Path) -> list[Path]:
    """The checkpoints of a run folder, newest first."""
    return sorted((run / FOLDER).glob("*.checkpoint"), reverse=True)


def write_checkpoint(directory: RunDirectory, header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Path:
    """Write the next checkpoint of a run, then remove all but the newest two."""
    (directory.path / FOLDER).mkdir(exist_ok=True)
    old = checkpoint_files(directory.path)
    number = 1 + max((int(path.stem) for path in old if path.stem.isdecimal()), default=0)
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, header=text, **arrays)
    body = buffer.getbuffer()
    first = _MAGIC + f"{FORMAT} {hashlib.sha256(body).hexdigest()}\n".encode()
    name = f"{FOLDER}/{number:06d}.checkpoint"
    directory.write_bytes(name, first + body)
    drop_checkpoints(directory.path, KEEP)
    return directory.path / name


def drop_checkpoints(run: Path, keep: int = 0) -> None:
    """Remove all but the newest ``keep`` checkpoints of a run."""
    for path in checkpoint_files(run)[keep:]:
        path.unlink(missing_ok=True)
    if not keep and (run / FOLDER).is_dir():
        shutil.rmtree(run / FOLDER, ignore_errors=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a checkpoint. Raises ``Damaged``."""
    try:
        data = read_bytes(path, MOST_BYTES)
    except UserError as error:
        raise Damaged(str(error).removeprefix(f"{path}: ")) from None
    first, _, body = data.partition(b"\n")
    words = first.removeprefix(_MAGIC).split()
    if not first.startswith(_MAGIC) or len(words) != 2:
        raise Damaged("is not a checkpoint of asyncsim")
    if words[0] != str(FORMAT).encode():
        raise Damaged(f"has format {words[0].decode(errors='replace')}; this version reads {FORMAT}")
    if hashlib.sha256(body).hexdigest().encode() != words[1]:
        raise Damaged("is truncated or damaged (its hash does not match)")
    try:
        with np.load(io.BytesIO(body), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
    except (ValueError, KeyError, OSError, EOFError, RecursionError, zipfile.BadZipFile) as error:
        raise Damaged(f"cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise Damaged("cannot be read: it has no header")
    return header, arrays
