"""What a run comes to: a result, or one clear refusal. Anything else is a finding."""

from __future__ import annotations

import re
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from asyncsim.errors import UserError
from asyncsim.records import Result
from asyncsim.simulation import patience, restarts
from asyncsim.simulation.verifying import LawBroken

PYTHON = re.compile(r"Traceback|<class |object at 0x|NoneType|KeyError|pydantic|Assertion|\bself\.|__\w+__")
"""What an error for people does not say."""
LONGEST = 600
PATIENCE = 1000
"""Pushes or crashes without an update after which a run of the torture is given up; a product that waits longer is no slower."""


class Finding(Exception):
    """A check failed. ``check`` and ``what`` say in which way, so that a smaller scenario can be told to fail alike."""

    def __init__(self, check: str, what: str, detail: str = "") -> None:
        self.check, self.what, self.detail = check, what, detail
        super().__init__(f"{check}: {what}{f' ({detail})' if detail else ''}")

    @property
    def way(self) -> tuple[str, str]:
        return self.check, self.what


class TimeLimit(BaseException):
    """The time for one seed is up. No ``Exception``, so that nothing on the way takes it for an error of its own."""


class Outcome(NamedTuple):
    """``result``, or the ``refusal`` of a run that cannot go on (a deadlock, recorded times at their end)."""

    result: Result | None
    refusal: str = ""


def attempt(what: str, action: Callable[[], Result]) -> Outcome:
    """The outcome of ``action``; raises ``Finding`` if a law is broken, or if the error is none for people."""
    try:
        return Outcome(action())
    except LawBroken as error:
        law = re.sub(r"\d+", "n", str(error).partition("; but: ")[0].partition("virtual time: ")[2])
        raise Finding("law", law, f"{what}: {error}") from None
    except UserError as error:
        clear(error)
        return Outcome(None, str(error))
    except Finding:
        raise
    except Exception as error:
        raise unexpected(what, error) from error


def unexpected(what: str, error: BaseException) -> Finding:
    """An error that should have been a refusal, named by where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/asyncsim/" in frame.filename] or list(frames)
    where = f"{ours[-1].filename.rpartition('/asyncsim/')[2]}:{ours[-1].name}" if ours else "nowhere"
    return Finding("traceback", f"{type(error).__name__} in {where}", f"{what}: {error}")


def clear(error: BaseException) -> None:
    """A refusal is a ``UserError`` of a few words, not of Python's."""
    if not isinstance(error, UserError):
        raise unexpected("refusal", error)
    lines = str(error).splitlines()
    if not lines or any(PYTHON.search(line) or len(line) > LONGEST for line in lines):
        raise Finding("unclear refusal", PYTHON.sub("...", lines[0])[:80] if lines else "nothing", str(error)[:300])


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise ``Finding`` where something takes more CPU seconds than that, or ten times as long by the clock: it hangs.

    Once the time is up, whatever comes out is that finding: libraries make errors of their own of what interrupts them.
    """
    places: list[str] = []

    def up(_: int, frame: Any) -> None:
        stack = [each for each in traceback.extract_stack(frame) if "/asyncsim/" in each.filename]
        place = f"in {stack[-1].filename.rpartition('/')[2]}:{stack[-1].name}" if stack else "outside the package"
        places.append(place)
        raise TimeLimit(place)

    timers = {signal.ITIMER_PROF: (signal.SIGPROF, seconds), signal.ITIMER_REAL: (signal.SIGALRM, 10 * seconds)}
    before = {number: signal.signal(number, up) for number, _ in timers.values()}
    for timer, (_, limit) in timers.items():
        signal.setitimer(timer, limit, 1.0)  # again, should it have been swallowed
    try:
        yield
    except BaseException:
        if not places:
            raise
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    if places:
        raise Finding("hang", "no end in time", f"{seconds:g} s, {places[0]}")


@contextmanager
def impatient() -> Iterator[None]:
    """Stalled runs are given up after thousands of pushes, not after a million."""
    before = patience.STALLED, restarts.FRUITLESS
    patience.STALLED, restarts.FRUITLESS = PATIENCE, 100
    try:
        yield
    finally:
        patience.STALLED, restarts.FRUITLESS = before
