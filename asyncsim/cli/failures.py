"""Runs that have all failed alike: that is an error of the command, at the line of the file that is to blame."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from asyncsim.cli.display import Display
from asyncsim.errors import UserError
from asyncsim.scenario import read_document


def common_error(displays: Sequence[Display]) -> str | None:
    """The error with which all runs have failed; None if one of them ended, or their errors differ."""
    errors = {message for display in displays for message in display.errors}
    return next(iter(errors)) if len(errors) == 1 and not any(display.finished for display in displays) else None


def located_error(error: str, file: str, out: Path) -> UserError:
    """The error with the place to mend: the run folder that it names itself, otherwise ``file:line`` of the field with which it
    begins, or the file alone if it begins with none."""
    if error.startswith(f"{out}"):
        return UserError(error)
    field = re.match(r"[a-z_]+(\.[a-z_]+)*(?=: )", error)
    where = read_document(file).where(tuple(field[0].split("."))) if field else file
    return UserError(f"{where}: {error}")
