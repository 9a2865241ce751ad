"""Where a user's own data may lie, and the error when it is in none of these places."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from asyncsim.errors import ChecksumError, DataMissing
from asyncsim.paths import resolved

VARIABLE = "ASYNCSIM_DATA"


def roots(data_dir: str | None) -> list[Path]:
    """The folders to search, in this order: the field ``data_dir``, ``$ASYNCSIM_DATA``, ``~/.cache/asyncsim``."""
    named = [data_dir, os.environ.get(VARIABLE)]
    return [resolved(folder) for folder in [*filter(None, named), "~/.cache/asyncsim"]]


def is_file(path: Path) -> bool:
    """Is there a file that may be read? A folder without permission, or an impossible name, is no error."""
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
    """Raise ``ChecksumError`` unless ``data`` has the given MD5; None is not checked."""
    if md5 is None:
        return
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise ChecksumError(
            f"{name} is not the published file: MD5 expected {md5}, found {found}. Get it again, or set `task.verify: false` "
            "if you trust it"
        )
