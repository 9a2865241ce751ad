"""Open the files that a user names, in one way: regular files only, no larger than the reader allows, with errors that are
sentences.

A named pipe would block for ever and a device would never end, so both are refused before they are opened. The contents of a
file are checked by its reader, except for JSON, which several readers use.
"""

from __future__ import annotations

import json
import math
import stat
import sys
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError

MEGABYTE = 1_000_000
MOST_DEPTH = 64
"""The largest depth of nesting in anything that is read."""
MOST_JSON = 1_000 * MEGABYTE

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def regular(path: Path, most: int) -> Path:
    """``path``, if it is a regular file (or a link to one) of at most ``most`` bytes.

    Raises ``UserError`` if it is something else, larger, missing, or not readable.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte, or that the file system cannot write
        raise _unreadable(path, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: is {_KINDS.get(stat.S_IFMT(status.st_mode), 'something else')}, not a file")
    if status.st_size > most:
        raise UserError(f"{path}: has {status.st_size:,} bytes; at most {most:,} are read")
    return path


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most ``most`` bytes. Raises ``UserError``."""
    regular(path, most)
    content = bytearray()
    try:
        with path.open("rb") as file:
            while len(content) <= most and (chunk := file.read(MEGABYTE)):
                content += chunk
    except OSError as error:
        raise _unreadable(path, error) from None
    if len(content) > most:  # it grew, or is one of those in /proc that say 0 bytes
        raise UserError(f"{path}: has more than {most:,} bytes, which is the most that are read")
    return bytes(content)


def read_start(path: Path, count: int) -> bytes:
    """The first bytes of a regular file, which may be of any size. Raises ``UserError``."""
    regular(path, sys.maxsize)
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError as error:
        raise _unreadable(path, error) from None


def read_text(path: Path, most: int) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises ``UserError``."""
    content = read_bytes(path, most)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
        raise UserError(f"{path}: is not UTF-8 text (byte {error.start}){'; it looks like UTF-16' if wide else ''}") from None


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """The data in a JSON file, which may be nested no deeper than ``MOST_DEPTH``, with finite numbers only. Raises
    ``UserError``."""
    text = read_text(path, most)
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: cannot be read as JSON: {error.msg}") from None
    except ValueError as error:  # too many digits, or not finite
        raise UserError(f"{path}: cannot be read as JSON: {number_problem(error)}") from None
    except RecursionError:
        raise UserError(f"{path}: cannot be read as JSON: nested too deeply") from None
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each) if _nests(item)]
        if not level:
            return value
    raise UserError(f"{path}: cannot be read as JSON: nested too deeply, more than {MOST_DEPTH} levels")


def number_problem(error: ValueError) -> str:
    """The message for a whole number of thousands of digits, which Python refuses to read."""
    return "a whole number has too many digits" if "integer string conversion" in str(error) else str(error)


def _nests(value: Any) -> bool:
    return isinstance(value, dict | list)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number in JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is too large")
    return value


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{path}: there is no such file")
    told = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return UserError(f"{path}: cannot be read: {told}")
