"""Signals that ask this process to end: Ctrl-C, SIGTERM, SIGHUP. The state here is the process's, as signals are."""

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
"""Seconds in which several signals are one request: ``timeout`` and ``uv run`` pass on what the terminal has sent already."""

_asked = 0  # the signal that asked this process to end; 0: none did
_since = 0.0
_held = 0  # sections under way that are not to be cut short


class Stopped(KeyboardInterrupt):
    """A signal asks this process to end: what is going on saves itself, and leaves. ``number`` is that of the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


def exit_code() -> int:
    """What the shell expects of a process that a signal ended, Ctrl-C if nothing else: 128 and the signal's number."""
    return 128 + (_asked or signal.SIGINT)


def asked() -> bool:
    """Was this process asked to end? Errors from then on may be no more than what the interruption did."""
    return _asked > 0


def check() -> None:
    """Raises ``Stopped`` if this process was asked to end. Python drops what a signal raises within ``__del__`` and the like, so
    loops look for themselves."""
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
    """Around the call of a library that installs signal handlers of its own."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # one that Python did not install
                    signal.signal(number, handler)


@contextmanager
def undisturbed() -> Iterator[None]:
    """What must not be cut short, such as an import: a signal that comes within is heeded at the end."""
    global _held
    before = _asked
    _held += 1
    try:
        yield
    finally:
        _held -= 1
    if not before and not _held:
        check()
