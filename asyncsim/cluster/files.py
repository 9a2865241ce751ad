"""Files of durations and events that users bring: what the guard of files refuses is the fault of the field that names one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncsim import paths, userfiles
from asyncsim.errors import UserError

MOST_BYTES = 2**30
"""Of a file, and of what a compressed one holds."""


class Unusable(Exception):
    """``field`` of the delay, script or option is at fault, with this message."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def resolved(file: str | Path, folder: str | Path | None = None) -> Path:
    """Where a file is, given the folder that relative paths start at. Raises ``Unusable``."""
    with _named_by("file"):
        return paths.resolved(file, folder)


def read_file(path: Path) -> bytes:
    """The bytes of a regular file of at most ``MOST_BYTES``. Raises ``Unusable``."""
    with _named_by("file"):
        return userfiles.read_bytes(path, MOST_BYTES)


def text_in(path: Path, content: bytes) -> str:
    """The text in UTF-8, or UTF-16 with a byte order mark, that a file holds. Raises ``Unusable``."""
    with _named_by("file"):
        text = userfiles.text_of(path, content, wide=True)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Unusable("file", f"{path}, line {line}: cannot be read as text: there is a NUL byte")
    return text


def unpacked(path: Path, content: bytes) -> bytes:
    """What a gzip file holds; any other content as it is. Raises ``Unusable``."""
    with _named_by("file"):
        return userfiles.unpacked(path, content, MOST_BYTES)


@contextmanager
def _named_by(field: str) -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise Unusable(field, str(error)) from None
