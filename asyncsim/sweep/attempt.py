"""One run of a study, whatever becomes of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from asyncsim import stopping
from asyncsim.errors import Busy, UserError
from asyncsim.moments import Progress
from asyncsim.records import Result
from asyncsim.records.directory import lock_of
from asyncsim.records.locks import held, is_free
from asyncsim.run import Wait, reusable, simulate
from asyncsim.scenario import Scenario


class Outcome(NamedTuple):
    """A result, an error, or (``busy``) nothing yet, as another process is writing this run."""

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
    """Simulate, or take the finished run that another sweep left in ``folder`` meanwhile. Never raises for what is wrong with
    one run: the others go on. ``shared``: other sweeps may work on the same folder, and are waited for."""
    try:
        with claimed(folder if shared else None):
            found = reusable(scenario, folder) if folder is not None and shared and not force else None
            if found is not None:
                return Outcome(found, reused=True)
            return Outcome(simulate(scenario, folder, progress, wait, fresh=force))
    except Busy as error:
        return Outcome(busy=True) if shared else Outcome(error=str(error))
    except Exception as error:
        stopping.check()  # what an interruption breaks is no error of the run
        if isinstance(error, UserError):
            return Outcome(error=str(error))
        if not shared:  # a plugin's mistake, memory
            raise
        return Outcome(error=described(error))


def described(error: BaseException) -> str:
    """An unexpected error in one line, with the place it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


@contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """Hold a run for this sweep, from the look at what is there to the last file. Raises ``Busy``, ``UserError``."""
    if folder is None:
        yield
        return
    with held(_claim_of(folder), f"{folder}: another process is writing this run"):
        yield


def is_idle(folder: Path) -> bool:
    """Is no sweep, and no other process, busy with the run of this folder?"""
    return is_free(_claim_of(folder), lock_of(folder))


def _claim_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.claim")
