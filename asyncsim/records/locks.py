"""Lock files, which one process at a time can hold. The operating system releases the lock of a process that dies, however it
dies, so a lock is never stale."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from asyncsim.errors import Busy, UserError


@contextmanager
def held(lock: Path, busy: str, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock file ``lock``; afterwards it is removed, and so are the folders made for it if they stayed empty.

    Raises ``Busy`` (with the text ``busy``) if somebody else still holds it after ``wait`` seconds, ``UserError`` if the folder
    cannot be written to.
    """
    folder = lock.parent
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    file = FileLock(lock)
    try:
        try:
            _acquire(file, folder, busy, wait)
        except BaseException:  # an error or an interruption after the lock was taken
            file.release(force=True)
            raise
        try:
            yield
        finally:
            with suppress(OSError):  # Windows does not remove an open file; there, releasing the lock removes it
                lock.unlink()  # while the lock is held: who has opened the file meanwhile sees that it has no name any more
            file.release()
    finally:
        with suppress(OSError):
            for parent in made:
                parent.rmdir()


def _acquire(file: FileLock, folder: Path, busy: str, wait: float) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file.acquire(timeout=wait)
        except FileNotFoundError:  # another process had made the folder, and has just removed it
            folder.mkdir(parents=True, exist_ok=True)
            file.acquire(timeout=wait)
    except Timeout:
        raise Busy(busy) from None
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder}: is a file, or lies in one; choose a folder for --out") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to: {error.strerror or error}") from None


def is_free(*locks: Path) -> bool:
    """Are all of these lock files unheld?"""
    try:
        for lock in locks:
            with held(lock, ""):
                pass
    except Busy:
        return False
    return True
