"""The command line's arguments, the choice of the command, and the messages and exit codes of errors."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import asyncsim
from asyncsim import registries
from asyncsim.cli import advising, calibrating, inspect, plotting, resuming, running, sweeping, tracing
from asyncsim.errors import UserError
from asyncsim.stopping import check, exit_code, stoppable
from asyncsim.trackers import following

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
        with following(getattr(arguments, "tracker", ())), _verified(getattr(arguments, "verify", False)):
            code = arguments.command(arguments)
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
    """How to continue after an interruption, for a command that saves what it does."""
    if arguments.command not in (running.run, sweeping.sweep, advising.advise, resuming.resume):
        return ""
    again = "the same command without --force" if getattr(arguments, "force", False) else "the same command"
    where = arguments.run if arguments.command is resuming.resume else arguments.out
    return f"; {again} goes on with what is saved in {where}"


@contextmanager
def _verified(wanted: bool) -> Iterator[None]:
    """Make the runs of this process, and of those that it starts, check the laws of the simulation."""
    before = os.environ.get("ASYNCSIM_VERIFY", "")
    os.environ["ASYNCSIM_VERIFY"] = "1" if wanted else before
    try:
        yield
    finally:
        os.environ["ASYNCSIM_VERIFY"] = before


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    top = argparse.ArgumentParser(prog="asyncsim", description=asyncsim.__doc__.splitlines()[0])
    top.add_argument("--version", action="version", version=f"asyncsim {asyncsim.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    run = _command(commands, "run", running.run, "simulate with real gradients; write run folders, a table and figures")
    _scenario_arguments(run)
    _run_arguments(run)
    run.add_argument("--extend", action="store_true", help="go on from a shorter run of the file in the folder, if there is one")
    sweeping.executor_arguments(run)

    sweep = _command(commands, "sweep", sweeping.sweep, "run a grid of scenarios; write run folders and tables")
    _scenario_arguments(sweep)
    _run_arguments(sweep)
    sweeping.sweep_arguments(sweep)

    advise = _command(commands, "advise", advising.advise, "run candidate fleets and methods, and say which to take")
    _scenario_arguments(advise)
    _run_arguments(advise)
    sweeping.sweep_arguments(advise)
    advising.arguments(advise)

    resume = _command(commands, "resume", resuming.resume, "go on with an interrupted run, or make a run longer, bit for bit")
    resume.add_argument("run", metavar="RUN", help="run folder")
    resume.add_argument(
        "--set", metavar="FIELD=VALUE", action="append", default=[], help="a greater length, e.g. run.updates=2000: a new folder"
    )
    resume.add_argument("--json", action="store_true", help="print the summary as one JSON object on stdout")

    plan = _command(commands, "plan", running.plan, "simulate the timeline alone: throughput, staleness, utilisation (no torch)")
    _scenario_arguments(plan)

    _looking_arguments(commands)
    plotting.arguments(commands, _command)
    calibrating.arguments(commands, _command, _positive)

    listing = _command(commands, "list", inspect.listing, "what scenarios may name, with a line on each")
    listing.add_argument("what", nargs="?", choices=sorted(registries.ALL), help="only this")
    listing.add_argument("--needs", action="store_true", help="what methods and their parts need and do, as they have declared")

    _command(commands, "schema", inspect.schema, "print the JSON Schema of scenario files, for editors")

    init = _command(commands, "init", inspect.init, "write a commented scenario to start from")
    init.add_argument("path", metavar="FILE", nargs="?", default="scenario.yaml")
    return top


def _looking_arguments(commands: argparse._SubParsersAction) -> None:
    """The commands that look at files, runs and engines."""
    bench = _command(
        commands, "bench-engine", running.bench_engine, "time every engine on a scenario and say which to write into it"
    )
    _scenario_arguments(bench)
    bench.add_argument("--variant", metavar="NAME", help="time only this one (default: every variant of the file)")
    bench.add_argument("--updates", metavar="N", type=_positive, default=400, help="length of a timed run (default: 400)")

    validate = _command(commands, "validate", inspect.validate, "check scenario files and say what each would run")
    validate.add_argument("files", metavar="FILE", nargs="+")

    show = _command(
        commands, "show", inspect.show, "print a run folder's summary, or a scenario file with all defaults filled in"
    )
    show.add_argument("path", metavar="RUN|FILE")
    show.add_argument("--json", action="store_true", help="as one JSON object")

    trace = _command(commands, "trace", tracing.trace, "write a run's trace for Perfetto: lanes, arrows, counters")
    trace.add_argument("run", metavar="RUN", help="run folder")
    trace.add_argument("--out", metavar="FILE", help="trace file, .json or .json.gz (default: trace.json in the run folder)")
    trace.add_argument("--start", metavar="TIME", type=tracing.duration, help="leave out what ended before this virtual time")
    trace.add_argument("--end", metavar="TIME", type=tracing.duration, help="leave out what started after this virtual time")


def _command(commands: argparse._SubParsersAction, name: str, function: object, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(command=function)
    return command


def _scenario_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="scenario file (.yaml, .toml, .json)")
    command.add_argument(
        "--set", metavar="FIELD=VALUE", action="append", default=[], help="override a field, e.g. cluster.workers=32"
    )
    command.add_argument("--seed", metavar="N", type=int, help="one run with this seed, instead of the file's seeds")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    command.add_argument("--verify", action="store_true", help="check while running that the laws of the simulation hold")
    command.add_argument("--json", action="store_true", help="print the summary as one JSON object on stdout")


def _run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", metavar="DIR", default="runs", help="folder that run folders go into (default: runs)")
    command.add_argument("--force", action="store_true", help="run again, from the start, what is finished or begun already")
    command.add_argument("--processes", metavar="N", type=_positive, help="runs at a time (default: one per core)")
    command.add_argument("--no-figures", action="store_true", help="write no figures")
    command.add_argument(
        "--tracker", metavar="KIND:WHERE", action="append", default=[], help="tell tensorboard, mlflow or wandb; tensorboard:logs"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


_positive.__name__ = "count of at least 1"
