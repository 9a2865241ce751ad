"""Where the user's own data may lie, and what to say when it does not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from asyncsim.errors import ChecksumError, DataMissing
from asyncsim.paths import resolved

VARIABLE = "ASYNCSIM_DATA"


def roots(data_dir: str | None) -> list[Path]:
    """Folders to look in, in this order: the field ``data_dir``, ``$ASYNCSIM_DATA``, ``~/.cache/asyncsim``."""
    named = [data_dir, os.environ.get(VARIABLE)]
    return [resolved(folder) for folder in [*filter(None, named), "~/.cache/asyncsim"]]


def is_file(path: Path) -> bool:
    """Whether there is a file that may be looked at; no error for a folder that may not, or for an impossible name."""
    try:
        return path.is_file()
    except OSError:
        return False


def missing(what: str, get: str, tried: Iterable[Path], instead: str) -> DataMissing:
    """The error for a data set that is in none of the places ``tried``."""
    places = "\n".join(f"  {path}" for path in tried)
    return DataMissing(
        f"{what} was not found. Looked for:\n{places}\nGet {get} (nothing is downloaded here) and name its folder in the field "
        f"`task.data_dir` or in the variable {VARIABLE}; or use the task `{instead}`, which needs no data of yours."
    )


def verify(name: str, data: bytes, md5: str | None) -> None:
    """ChecksumError unless ``data`` has that MD5; None is not checked."""
    if md5 is None:
        return
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ChecksumError(
            f"{name} is not the published file: MD5 expected {md5}, found {found}. Get it again, or set `task.verify: false` "
            "if you trust it"
        )
