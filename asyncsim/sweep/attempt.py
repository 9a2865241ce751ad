"""One run of a study, whatever becomes of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from asyncsim.errors import Busy, UserError
from asyncsim.records import Result
from asyncsim.run import Progress, Wait, reusable, simulate
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
    except UserError as error:
        return Outcome(error=str(error))
    except Exception as error:  # a plugin's mistake, memory
        if not shared:
            raise
        return Outcome(error=described(error))


def described(error: BaseException) -> str:
    """An unexpected error in one line, with the place it comes from."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())}{place}"


@contextmanager
def claimed(folder: Path | None) -> Iterator[None]:
    """Hold a run's folder, from the look at what is there to the last file. Raises ``Busy``, ``UserError``."""
    if folder is None:
        yield
        return
    lock = _claim(folder)
    made = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(f"{folder}: another process is writing this run") from None
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder.parent}: is a file, or lies in one; choose a folder for --out") from None
    except OSError as error:
        raise UserError(f"{folder.parent}: cannot be written to: {error.strerror or error}") from None
    try:
        yield
    finally:
        lock.release()
        if not folder.exists():  # it did not get so far as to write: leave nothing behind
            with suppress(OSError):
                _path(folder).unlink(missing_ok=True)
                for parent in made:
                    parent.rmdir()


def is_free(folder: Path) -> bool:
    """Is nobody writing to this folder just now?"""
    for lock in (_claim(folder), FileLock(folder.with_name(f".{folder.name}.lock"))):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        lock.release()
    return True


def _claim(folder: Path) -> FileLock:
    return FileLock(_path(folder))


def _path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.claim")
