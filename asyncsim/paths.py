"""Paths as scenarios write them: from the scenario's folder, or from somebody's home."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ValidationInfo

from asyncsim.errors import UserError


def resolved(path: str | Path, folder: str | Path | None = None) -> Path:
    """Where a file or folder is, if relative paths start at ``folder`` (by default the working directory) and ``~`` is a home.

    Raises ``UserError`` if it begins with the home of somebody who has none.
    """
    try:
        return Path(folder or ".") / Path(path).expanduser()
    except RuntimeError as error:
        raise UserError(f"{path}: there is no such place: {error}") from None


def absolute(path: str, info: ValidationInfo) -> str:
    """``path`` from the folder in the validation context, with nothing relative left in it. Raises ``ValueError``."""
    try:
        return str(resolved(path, (info.context or {}).get("folder")).resolve())
    except (UserError, OSError, RuntimeError) as error:  # RuntimeError: links that lead in a circle
        raise ValueError(str(error)) from None


ScenarioPath = Annotated[str, AfterValidator(absolute)]
"""A path in a scenario: a relative one starts at the scenario's folder (the validation context's ``folder``), or else at the
working directory. It is kept as an absolute one."""
