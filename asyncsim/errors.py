"""Errors that a user can correct. The command line prints them as one message, without a traceback, and exits with code 2."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something in the input is wrong. The message says what, where, and what is allowed.

    What the message quotes from the input is printed escaped, so that no file can drive a terminal.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


class Busy(UserError):
    """Another process is writing to this run's folder."""


class DataMissing(UserError):
    """A data set that the user has to bring was not found. The message names every place that was searched."""


class ChecksumError(UserError):
    """A data file is not the published one. The message names the file, the expected checksum, and the one found."""


class Deadlock(UserError):
    """No event is left and the run is not over. The message names who waits for what."""


def printable(text: str, lines: bool = True) -> str:
    """``text`` with control characters, lone surrogates and whatever else shows nothing or turns text round written as escapes
    (``\\x1b``). Ends of lines stay unless ``lines`` is false."""
    if text.isprintable():
        return text
    kept = "\n" if lines else ""
    return "".join(
        letter if letter.isprintable() or letter in kept else letter.encode("unicode_escape").decode() for letter in text
    )


def first_line(error: BaseException) -> str:
    """The first line of what an error of another library says, or its kind where it says nothing."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def nearest(word: str, known: Iterable[str]) -> str:
    """A hint ``"; did you mean `x`"`` when ``word`` nearly is one of ``known``, else an empty string."""
    match = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean `{match[0]}`" if match else ""
