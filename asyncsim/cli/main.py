"""The command line's arguments, the choice of the command, and the messages and exit codes of errors."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from typing import Any

from asyncsim.cli.grammar import parser
from asyncsim.errors import UserError
from asyncsim.stopping import check, exit_code, stoppable, undisturbed

BROKEN_PIPE = 128 + 13
"""The exit code of a program whose output nobody reads any more: 128 and the number of SIGPIPE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    with stoppable():
        arguments = argparse.Namespace(command=None)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # names of files need not be text, and a terminal need not know every letter
                stream.reconfigure(errors="backslashreplace")
        try:
            arguments = _parsed(argv)
            return _code(arguments)
        except KeyboardInterrupt:
            with suppress(OSError):  # SIGHUP: the terminal has gone
                print(f"asyncsim: interrupted{_way_on(arguments)}", file=sys.stderr)
            return exit_code()
        except BrokenPipeError:  # the reader of our output has gone (`| head`)
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):  # a stream that is not a file has nothing to flush
                    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
            return BROKEN_PIPE


def _parsed(argv: Sequence[str] | None) -> argparse.Namespace:
    try:
        return parser().parse_args(argv)
    except SystemExit:  # --help, --version, or wrong arguments
        sys.stdout.flush()
        raise


def _code(arguments: argparse.Namespace) -> int:
    try:
        with undisturbed():  # an import that is cut short could not be done again
            module, _, name = arguments.command.partition(".")
            command = getattr(import_module(f"asyncsim.cli.{module}"), name)
        with _followed(getattr(arguments, "tracker", ())), _verified(getattr(arguments, "verify", False)):
            code = command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        check()
        raise
    except UserError as error:
        check()
        print(f"asyncsim: {error}" if "\n" not in str(error) else f"asyncsim:\n{error}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        check()
        if not isinstance(error, MemoryError) and not re.search("(can't allocate|out of) memory", str(error)):
            raise
        print("asyncsim: out of memory: this machine has too little for that", file=sys.stderr)
        return 2
    except OSError as error:  # a table or figure that cannot be written
        check()
        print(f"asyncsim: {error.filename or 'the output'}: {error.strerror or error}", file=sys.stderr)
        return 2
    except Exception:
        check()  # what an interruption breaks, such as an import that is cut short, is no error
        raise


def _way_on(arguments: argparse.Namespace) -> str:
    """How to go on after an interruption, for a command that saves what it does."""
    if arguments.command not in ("running.run", "sweeping.sweep", "advising.advise", "resuming.resume"):
        return ""
    again = "the same command without --force" if getattr(arguments, "force", False) else "the same command"
    where = arguments.run if arguments.command == "resuming.resume" else arguments.out
    return f"; {again} goes on with what is saved in {where}"


def _followed(names: Sequence[str]) -> Any:
    """Trackers for the runs of this process, and of those that it starts."""
    if not names:
        return nullcontext()
    from asyncsim.trackers import following

    return following(names)


@contextmanager
def _verified(wanted: bool) -> Iterator[None]:
    """Make the runs of this process, and of those that it starts, check the laws of the simulation."""
    before = os.environ.get("ASYNCSIM_VERIFY", "")
    os.environ["ASYNCSIM_VERIFY"] = "1" if wanted else before
    try:
        yield
    finally:
        os.environ["ASYNCSIM_VERIFY"] = before
