"""A run on disk: ``manifest.json``, ``scenario.yaml``, Parquet tables, ``summary.json``, ``parameters.npy``.

Every file appears whole or not at all (written beside its place, flushed, then renamed). While a run goes on its rows lie in
``parts/``; at the end they become one file a table. A process that dies leaves a folder that can be read.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np

from asyncsim.errors import UserError
from asyncsim.records.locks import held
from asyncsim.records.reading import part_number, read_manifest

TABLES = ("metrics", "updates", "events")


class RunDirectory:
    """The folder of one run, held by one writer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held = ExitStack()
        self.parts = 0

    def open(self) -> RunDirectory:
        """Take the folder for writing; what an earlier, unfinished run left in it is removed.

        Raises ``UserError`` if another process writes to it, or if the folder holds something other than a run.
        """
        return self.lock().begin()

    def begin(self) -> RunDirectory:
        """Prepare the folder, which is already held, for a new run. If that fails, the folder is given back."""
        try:
            self._clear()
            (self.path / "parts").mkdir(parents=True)
        except OSError as error:
            self.close()
            raise UserError(f"{self.path}: cannot be written to: {error.strerror or error}") from None
        except UserError:
            self.close()
            raise
        return self

    def lock(self) -> RunDirectory:
        """Hold the folder and leave it as it is. Raises ``UserError`` if another process holds it."""
        busy = f"{self.path}: another process is writing this run; wait for it, or choose another --out"
        self._held.enter_context(held(lock_of(self.path), busy))
        return self

    def rewind(self, parts: int) -> None:
        """Go back to the state after ``parts`` parts: what a process wrote after that, before it died, is removed."""
        self.parts = parts
        (self.path / "parts").mkdir(exist_ok=True)
        later = [part for part in (self.path / "parts").iterdir() if part_number(part) > parts]
        whole = [self.path / name for name in (*(f"{table}.parquet" for table in TABLES), "summary.json", "parameters.npy")]
        for path in [*later, *whole, *self.path.glob(".*.tmp"), *self.path.glob("*/.*.tmp")]:
            path.unlink(missing_ok=True)

    def _clear(self) -> None:
        """Remove an earlier run. It is moved aside first, so that at every moment the folder holds a whole run or nothing."""
        aside = self.path.with_name(f".{self.path.name}.old")
        shutil.rmtree(aside, ignore_errors=True)
        if not self.path.exists():
            return
        if not _is_run(self.path):
            raise UserError(f"{self.path}: is there already and is not a run of asyncsim; choose another --out")
        self.path.rename(aside)
        shutil.rmtree(aside, ignore_errors=True)

    def close(self) -> None:
        self._held.close()

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        self.write_bytes(name, (json.dumps(value, indent=2, allow_nan=False) + "\n").encode())

    def write_array(self, name: str, array: np.ndarray) -> None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        self.write_bytes(name, buffer.getvalue())

    def write_part(self, table: str, segment: Mapping[str, np.ndarray]) -> None:
        self.parts += 1
        self.write_bytes(f"parts/{table}-{self.parts:06d}.parquet", _parquet(segment))

    def write_table(self, table: str, arrays: Mapping[str, np.ndarray]) -> None:
        self.write_bytes(f"{table}.parquet", _parquet(arrays))

    def drop_parts(self) -> None:
        """Remove the parts, whose rows are in the whole tables now."""
        shutil.rmtree(self.path / "parts", ignore_errors=True)

    def write_bytes(self, name: str, data: bytes) -> None:
        write_atomically(self.path / name, data)


def lock_of(run: Path) -> Path:
    """The lock file that a process holds while it writes to a run's folder."""
    return run.with_name(f".{run.name}.lock")


def write_atomically(target: Path, data: bytes) -> None:
    """Replace ``target`` by ``data``, or leave it as it was. Raises ``UserError`` (disk full, no permission)."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        discard(temporary)
        raise UserError(f"{target}: cannot be written: {error.strerror or error}") from None
    except BaseException:  # Ctrl-C
        discard(temporary)
        raise


def discard(temporary: Path) -> None:
    """Remove a file if it is there. Where nothing can be written (a file system that is read-only), there is none."""
    with suppress(OSError):
        temporary.unlink()


def _is_run(path: Path) -> bool:
    """Does the folder hold a run, or what a process leaves behind that died before it wrote its first manifest?"""
    if (path / "manifest.json").exists():
        try:
            return bool(read_manifest(path))
        except UserError:
            return False
    return path.is_dir() and all(
        entry.name in ("parts", "checkpoints", "scenario.yaml") or (entry.name.startswith(".") and entry.suffix == ".tmp")
        for entry in path.iterdir()
    )


def _parquet(arrays: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(arrays)), buffer, compression="zstd")
    return buffer.getvalue()
