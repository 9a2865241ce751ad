"""Signals that ask this process to end: Ctrl-C, SIGTERM and SIGHUP. The module has state of its own, because signals belong to
the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name))
ONE_REQUEST = 1.0
"""Seconds within which several signals count as one request: ``timeout`` and ``uv run`` pass on a signal that the terminal has
sent to this process already."""

_asked = 0  # the signal that asked this process to end; 0: none did
_since = 0.0
_held = 0  # sections under way that are not to be cut short


class Stopped(KeyboardInterrupt):
    """Raised when a signal asks this process to end, so that what is going on can save itself. ``number`` is that of the
    signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code() -> int:
    """The exit code of a process that a signal ended, as shells expect it: 128 plus the number of the signal (of Ctrl-C if none
    was seen)."""
    return 128 + (_asked or signal.SIGINT)


def asked() -> bool:
    """Was this process asked to end? Errors after that may be mere consequences of the interruption."""
    return _asked > 0


def check() -> None:
    """Raise ``Stopped`` if this process was asked to end.

    Python drops an exception that a signal raises within ``__del__`` and the like, so loops call this themselves.
    """
    if _asked:
        raise Stopped(_asked)


def stop(number: int) -> None:
    """Ask this process to end: raises ``Stopped`` the first time, and does nothing afterwards."""
    global _asked, _since
    if not _asked:
        _asked, _since = number, time.monotonic()
        if not _held:
            raise Stopped(number)


@contextmanager
def stoppable() -> Iterator[None]:
    """Within it the first signal raises ``Stopped`` in the main thread, and one that comes later ends the process at once.

    What the caller of this process had ignored (``nohup``) stays ignored. Outside the main thread this does nothing.
    """
    global _asked
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    heeded = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    outermost = _heed not in heeded.values()
    try:
        for number in heeded:
            signal.signal(number, _heed)
        yield
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        if outermost:
            _asked = 0


def _heed(number: int, _: Any) -> None:
    if _asked and time.monotonic() - _since > ONE_REQUEST:
        with suppress(OSError, ValueError):
            if sys.stderr.isatty():
                os.write(sys.stderr.fileno(), b"\x1b[?25h\n")  # a progress display had hidden the cursor
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
    stop(number)


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Context around the call of a library that installs signal handlers: afterwards the handlers are as they were."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # a handler that was not installed from Python
                    signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Context for what must not be cut short, such as an import: a signal that comes within is acted upon at the end."""
    global _held
    before = _asked
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if not before and not _held:
        check()
