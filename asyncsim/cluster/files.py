"""Files that users bring, as bytes and text: regular files of a bounded size, compressed or not, in UTF-8 or UTF-16."""

from __future__ import annotations

import gzip
import io
import stat
import zlib
from pathlib import Path

MOST_BYTES = 2**30
"""The largest size in bytes of a file, and of what a compressed file holds."""


class Unusable(Exception):
    """A file cannot be used: ``field`` is the setting of the delay, script or option that is at fault, and the message says
    why."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def resolved(file: str | Path, folder: str | Path | None = None) -> Path:
    """Where a file is, given the folder that relative paths start at.

    Raises:
        Unusable: the path begins with the home of somebody who has none.
    """
    try:
        return Path(folder or ".") / Path(file).expanduser()
    except RuntimeError as error:
        raise Unusable("file", f"{file} cannot be read: {error}") from None


def read_file(path: Path, most: int | None = None) -> bytes:
    """The bytes of a regular file of at most ``most`` (by default ``MOST_BYTES``) bytes. Pipes and devices are not opened.

    Raises:
        Unusable: it cannot be read.
    """
    most = MOST_BYTES if most is None else most
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise Unusable("file", f"{path} cannot be read: it is a folder")
        if not stat.S_ISREG(mode):
            raise Unusable("file", f"{path} cannot be read: it is a pipe, a device or a socket; allowed are regular files")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        raise Unusable("file", f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    return _bounded(path, content, most)


def unpacked(path: Path, content: bytes, most: int | None = None) -> bytes:
    """The contents of a gzip file, which is recognised by its first bytes; any other content as it is. Raises ``Unusable``."""
    if content[:2] != b"\x1f\x8b":
        return content
    most = MOST_BYTES if most is None else most
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            return _bounded(path, file.read(most + 1), most)
    except (OSError, EOFError, zlib.error) as error:
        raise Unusable("file", f"{path} cannot be read as gzip: {error}") from None


def text_of(path: Path, content: bytes) -> str:
    """The text of bytes in UTF-8, or in UTF-16 if there is a byte order mark. Raises ``Unusable``."""
    try:
        text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unusable("file", f"{path} cannot be read as text in UTF-8 (or UTF-16 with a byte-order mark): {error}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise Unusable("file", f"{path}, line {line}: cannot be read as text: there is a NUL byte")
    return text


def _bounded(path: Path, content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise Unusable("file", f"{path} cannot be read: it holds more than {most / 2**20:,.0f} MiB, which is the limit")
    return content
