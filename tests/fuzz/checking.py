"""One command in this process, within bounds of time and memory: it ends with 0, or with 2 and a sentence."""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import traceback
import warnings
from collections.abc import Iterator, Sequence

from asyncsim.cli import main

SECONDS = 20
GIGABYTES = 12


def complaint(command: Sequence[str]) -> str | None:
    """What is wrong with how ``asyncsim`` takes ``command``; None if nothing is."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            code = main(list(command))
    except SystemExit as error:
        code = error.code
    except TimeoutError:
        return f"took more than {SECONDS} s"
    except BaseException:  # whatever it is, a user would see it
        return traceback.format_exc()
    said = err.getvalue()
    if code not in (0, 2):
        return f"exit code {code}: {said[-500:]}"
    if "Traceback" in said or "Traceback" in out.getvalue():
        return said
    if code == 2 and len(said.strip()) < 12:
        return f"no sentence: {said!r}"
    wild = [letter for letter in said + out.getvalue() if (ord(letter) < 32 and letter != "\n") or 0xD800 <= ord(letter) < 0xE000]
    return f"prints {wild[0]!r}: {said or out.getvalue()}" if wild else None


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Raises TimeoutError after ``SECONDS``; memory beyond ``GIGABYTES`` is refused by the system."""

    def late(*_: object) -> None:
        raise TimeoutError

    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES * 10**9, before[1]))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, before)
