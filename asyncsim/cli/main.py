"""The command line's arguments, the choice of the command, and the messages and exit codes of errors."""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from asyncsim.cli.grammar import parser
from asyncsim.errors import UserError
from asyncsim.stopping import check, exit_code, stoppable, undisturbed
from asyncsim.userfiles import ALLOW_CODE

BROKEN_PIPE = 128 + 13
"""The exit code of a program whose output nobody reads any more: 128 and the number of SIGPIPE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    with stoppable():
        arguments = argparse.Namespace(command=None)
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # it was closed before we began (`>&-`)
                setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115  # it stays open as long as the process
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # names of files need not be text, and a terminal need not know every letter
                stream.reconfigure(errors="backslashreplace")
        try:
            arguments = _parsed(argv)
            return _code(arguments)
        except KeyboardInterrupt:
            _complain(f" interrupted{_way_on(arguments)}")
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
        switched = {"ASYNCSIM_VERIFY": getattr(arguments, "verify", False), ALLOW_CODE: getattr(arguments, "allow_code", False)}
        with _followed(getattr(arguments, "tracker", ())), _switched(switched), _without_windows():
            code = command(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        check()
        raise
    except UserError as error:
        check()
        _complain(f" {error}" if "\n" not in str(error) else f"\n{error}")
        return 2
    except (MemoryError, RuntimeError) as error:
        check()
        if not isinstance(error, MemoryError) and not re.search("(can't allocate|out of) memory", str(error)):
            raise
        _complain(" out of memory: this machine has too little for that")
        return 2
    except OSError as error:  # a table or figure that cannot be written
        check()
        crowded = error.errno == errno.EMFILE and "; this process may open more with `ulimit -n 256`"
        _complain(f" {error.filename or 'the output'}: {error.strerror or error}{crowded or ''}")
        return 2
    except Exception:
        check()  # what an interruption breaks, such as an import that is cut short, is no error
        raise


def _complain(text: str) -> None:
    """Write to stderr, if anybody takes it: after SIGHUP the terminal has gone, and a log may be on a full disk."""
    with suppress(OSError):
        print(f"asyncsim:{text}", file=sys.stderr)


def _way_on(arguments: argparse.Namespace) -> str:
    """How to go on after an interruption, for a command that saves what it does."""
    if arguments.command not in ("running.run", "sweeping.sweep", "advising.advise", "atlas.atlas", "resuming.resume"):
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
def _switched(wanted: Mapping[str, bool]) -> Iterator[None]:
    """Set switches of this process, and of those that it starts, in the environment: runs check the laws of the simulation, code
    that a scenario names may be run. What is not wanted is left as it is."""
    before = {name: os.environ.get(name, "") for name in wanted}
    os.environ |= {name: "1" if on else before[name] for name, on in wanted.items()}
    try:
        yield
    finally:
        os.environ |= before


@contextmanager
def _without_windows() -> Iterator[None]:
    """Let matplotlib, should a command import it, draw into files, whatever backend for windows `MPLBACKEND` names."""
    before = os.environ.get("MPLBACKEND")
    if before is not None and not before.startswith("module://"):  # a notebook's
        os.environ["MPLBACKEND"] = "Agg"
    try:
        yield
    finally:
        if before is not None:
            os.environ["MPLBACKEND"] = before
