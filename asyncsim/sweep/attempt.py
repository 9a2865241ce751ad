"""Try one run of a study, and report whatever becomes of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from asyncsim import stopping
from asyncsim.errors import Busy, UserError
from asyncsim.records import Result
from asyncsim.records.directory import lock_of
from asyncsim.records.locks import held, is_free
from asyncsim.run import Wait, reusable, simulate
from asyncsim.run.moments import Progress
from asyncsim.scenario import Scenario


class Outcome(NamedTuple):
    """What became of a run: a result, an error, or (``busy``) nothing yet, because another process is writing this run."""

    result: Result | None = None
    error: str | None = None
    reused: bool = False
    busy: bool = False


def attempt(
    scenario: Scenario,
    folder: Path | None,
    force: bool = False,
    progress: Progress | None = None,
    wait: Wait | None = None,
    shared: bool = True,
) -> Outcome:
    """Simulate a run, or take the finished run that another sweep has left in ``folder`` meanwhile.

    It never raises for a fault of this run, so that the others go on. ``shared`` says that other sweeps may work on the same
    folder; they are waited for.
    """
    try:
        with claimed(folder if shared else None):
            found = reusable(scenario, folder) if folder is not None and shared and not force else None
            if found is not None:
                return Outcome(found, reused=True)
            return Outcome(simulate(scenario, folder, progress, wait, fresh=force))
    except Busy as error:
        return Outcome(busy=True) if shared else Outcome(error=str(error))
    except Exception as error:
        stopping.check()  # an error that an interruption causes is not an error of the run
        if isinstance(error, UserError):
            return Outcome(error=str(error))
        if not shared:  # for example a fault of a plugin, or no memory left
            raise
        return Outcome(error=described(error))


def described(error: BaseException) -> str:
    """An unexpected error in one line, with the place in the code where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


@contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """Context in which a run is held for this sweep, from looking at what exists to writing the last file. Raises ``Busy`` or
    ``UserError``."""
    if folder is None:
        yield
        return
    with held(_claim_of(folder), f"{folder}: another process is writing this run"):
        yield


def is_idle(folder: Path) -> bool:
    """Is no sweep and no other process working on the run of this folder?"""
    return is_free(_claim_of(folder), lock_of(folder))


def _claim_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.claim")
