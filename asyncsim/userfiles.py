"""Files that a user names, opened by one guard: regular files only, no larger than the reader says, errors as sentences.

A named pipe would block for ever and a device never end, so both are refused before they are opened. What is inside a file is the
reader's matter, but for what several read: gzip, text and JSON.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import stat
import sys
import zlib
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError

MEGABYTE = 1_000_000
ALLOW_CODE = "ASYNCSIM_ALLOW_CODE"
"""The variable of the environment that is 1 where Python files that a scenario names may be run."""
MOST_DEPTH = 64
"""Levels of nesting in anything that is read."""
MOST_JSON = 1_000 * MEGABYTE

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}  # fmt: skip


def regular(path: Path, most: int) -> Path:
    """``path``, if it is a regular file (or a link to one) of at most ``most`` bytes.

    Raises ``UserError`` if it is something else, larger, missing, or not to be looked at.
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


def unpacked(path: Path, content: bytes, most: int) -> bytes:
    """What ``content`` of the file ``path`` holds, if it is gzip by its first bytes; any other content as it is.

    Raises ``UserError`` if it is damaged, or holds more than ``most`` bytes, of which no more are unpacked.
    """
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            inside = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as gzip: {error}") from None
    if len(inside) > most:
        raise UserError(f"{path}: has more than {most:,} bytes when unpacked, which is the most that are read")
    return inside


def read_text(path: Path, most: int) -> str:
    """A text file in UTF-8, with or without a byte order mark. Raises ``UserError``."""
    return text_of(path, read_bytes(path, most))


def text_of(path: Path, content: bytes, wide: bool = False) -> str:
    """``content`` of the file ``path`` as text: UTF-8 or, if ``wide`` allows it, UTF-16 with a byte order mark.

    Raises ``UserError``.
    """
    marked = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    try:
        return content.decode("utf-16" if wide and marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        form = "UTF-16" if wide and marked else "UTF-8"
        hint = "; it looks like UTF-16" if marked and not wide else ""
        raise UserError(f"{path}: is not {form} text (byte {error.start}){hint}") from None


def read_json(path: Path, most: int = MOST_JSON) -> Any:
    """What a JSON file says: nested no deeper than ``MOST_DEPTH``, all numbers finite. Raises ``UserError``."""
    text = read_text(path, most)
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: cannot be read as JSON: {error.msg}") from None
    except ValueError as error:  # too many digits, or not finite
        raise UserError(f"{path}: cannot be read as JSON: {number_problem(error)}") from None
    except RecursionError:
        raise UserError(f"{path}: cannot be read as JSON: nested too deeply") from None
    level = [value] if _nests(value) else []
    for _ in range(MOST_DEPTH):
        if not level:
            return value
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each) if _nests(item)]
    raise UserError(f"{path}: cannot be read as JSON: nested too deeply, more than {MOST_DEPTH} levels")


def number_problem(error: Exception) -> str:
    """Python's refusal to read a whole number of thousands of digits, in the words of a user."""
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
