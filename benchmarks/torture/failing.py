"""File operations that fail: the n-th of a kind, below one folder, in this process."""

from __future__ import annotations

import builtins
import errno
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet


class PowerCut(BaseException):
    """Nothing happens after this operation."""


def no_space() -> BaseException:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def bad_disk() -> BaseException:
    return OSError(errno.EIO, os.strerror(errno.EIO))


def interrupted() -> BaseException:
    return OSError(errno.EINTR, os.strerror(errno.EINTR))


ERRORS: dict[str, tuple[Callable[[], BaseException], ...]] = {
    "open": (no_space, bad_disk, PowerCut), "write": (no_space, MemoryError, PowerCut),
    "fsync": (bad_disk, interrupted, PowerCut),
    "replace": (bad_disk, PowerCut), "unlink": (bad_disk, PowerCut), "mkdir": (no_space, PowerCut), "scandir": (bad_disk,),
    "read": (bad_disk, MemoryError), "read table": (bad_disk, MemoryError),
}  # fmt: skip
"""What each kind of operation may end in."""


class File:
    """An open file whose operations are counted. A write that fails has written half of what it was given."""

    def __init__(self, file: Any, count: Callable[[str], None]) -> None:
        self._file, self._count = file, count

    def write(self, data: Any) -> int:
        try:
            self._count("write")
        except BaseException:
            self._file.write(data[: len(data) // 2])
            raise
        return self._file.write(data)

    def read(self, *size: int) -> Any:
        self._count("read")
        return self._file.read(*size)

    def __enter__(self) -> File:
        return self

    def __exit__(self, *_: Any) -> None:
        self._file.close()

    def __iter__(self) -> Iterator[Any]:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@contextmanager
def failing(
    folder: Path, kind: str = "", number: int = 0, error: Callable[[], BaseException] = no_space
) -> Iterator[Counter[str]]:
    """Below ``folder`` the ``number``-th (from 1) operation of a ``kind`` fails; gives the counts so far.

    After a ``PowerCut`` every operation raises it: nobody tidies up.
    """
    counts: Counter[str] = Counter()
    dead = False

    def count(what: str) -> None:
        nonlocal dead
        counts[what] += 1
        if dead or (what == kind and counts[what] == number):
            raised = error()
            dead = isinstance(raised, PowerCut)
            raise raised

    def ours(path: Any) -> bool:
        named = isinstance(path, str | bytes | os.PathLike)
        return named and str(Path(os.fsdecode(path)).absolute()).startswith(str(folder))

    def guarded(call: Callable[..., Any], what: str) -> Callable[..., Any]:
        def guard(*arguments: Any, **options: Any) -> Any:
            first = arguments[0] if arguments else None
            if what == "fsync" or ours(first):
                count(what)
            return call(*arguments, **options)

        return guard

    def opened(call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(path: Any, *arguments: Any, **options: Any) -> Any:
            if not ours(path):
                return call(path, *arguments, **options)
            count("open")
            return File(call(path, *arguments, **options), count)

        return guard

    patches = [
        (io, "open", opened(io.open)), (builtins, "open", opened(builtins.open)), (os, "fsync", guarded(os.fsync, "fsync")),
        (os, "replace", guarded(os.replace, "replace")), (os, "rename", guarded(os.rename, "replace")),
        (os, "unlink", guarded(os.unlink, "unlink")), (os, "mkdir", guarded(os.mkdir, "mkdir")),
        (os, "scandir", guarded(os.scandir, "scandir")), (parquet, "read_table", guarded(parquet.read_table, "read table")),
    ]  # fmt: skip
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in patches]
    try:
        for owner, name, value in patches:
            setattr(owner, name, value)
        yield counts
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)
