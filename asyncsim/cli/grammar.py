"""The whole grammar of the command line. Nothing that a command needs is imported here, so that ``--help`` takes no time."""

from __future__ import annotations

import argparse
from typing import Any

import asyncsim

WHAT = "asyncsim: deterministic discrete-event simulation of asynchronous distributed training, with real gradients."
UNITS = ("ns", "us", "ms", "s", "min", "h")
Commands = Any
"""What ``add_subparsers`` returns."""


def parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    top = argparse.ArgumentParser(prog="asyncsim", description=WHAT)
    top.add_argument("--version", action="version", version=f"asyncsim {asyncsim.__version__}")
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    _simulating(commands)
    validate = _command(commands, "validate", "inspect.validate", "check scenario files and say what each would run")
    validate.add_argument("files", metavar="FILE", nargs="+")

    show = _command(
        commands, "show", "inspect.show", "print a run folder's summary, or a scenario file with all defaults filled in"
    )
    show.add_argument("path", metavar="RUN|FILE")
    show.add_argument("--json", action="store_true", help="as one JSON object")
    _code_argument(validate)
    _code_argument(show)

    trace = _command(commands, "trace", "tracing.trace", "write a run's trace for Perfetto: lanes, arrows, counters")
    trace.add_argument("run", metavar="RUN", help="run folder")
    trace.add_argument("--out", metavar="FILE", help="trace file, .json or .json.gz (default: trace.json in the run folder)")
    trace.add_argument("--start", metavar="TIME", type=_duration, help="leave out what ended before this virtual time")
    trace.add_argument("--end", metavar="TIME", type=_duration, help="leave out what started after this virtual time")

    _run_readers(commands)
    _calibrate(commands)

    listing = _command(commands, "list", "inspect.listing", "what scenarios may name, with a line on each")
    listing.add_argument("what", metavar="WHAT", nargs="?", help="only this, such as methods, policies, delays, tasks")
    listing.add_argument("name", metavar="KIND", nargs="?", help="and only this one of them, with its description and its fields")
    listing.add_argument("--needs", action="store_true", help="what methods and their parts need and do, as they have declared")

    explain = _command(commands, "explain", "described.explain", "what may stand in a field of a scenario file")
    explain.add_argument("field", metavar="FIELD", help="a dotted path, such as cluster.compute or run.target.metric")

    _command(commands, "schema", "inspect.schema", "print the JSON Schema of scenario files, for editors")

    init = _command(commands, "init", "inspect.init", "write a commented scenario to start from")
    init.add_argument("path", metavar="FILE", nargs="?", default="scenario.yaml")
    return top


def _simulating(commands: Commands) -> None:
    """The commands that simulate."""
    run = _command(commands, "run", "running.run", "simulate with real gradients; write run folders, a table and figures")
    _scenario_arguments(run)
    _run_arguments(run)
    run.add_argument("--extend", action="store_true", help="go on from a shorter run of the file in the folder, if there is one")
    _executor_arguments(run)

    sweep = _command(commands, "sweep", "sweeping.sweep", "run a grid of scenarios; write run folders and tables")
    _scenario_arguments(sweep)
    _run_arguments(sweep)
    _sweep_arguments(sweep)

    atlas = _command(commands, "atlas", "atlas.atlas", "run all methods at all conditions and worker counts; write one page")
    _scenario_arguments(atlas)
    _run_arguments(atlas)
    _many_arguments(atlas)
    atlas.set_defaults(grid=[], zip=[])

    advise = _command(commands, "advise", "advising.advise", "run candidate fleets and methods, and say which to take")
    _scenario_arguments(advise)
    _run_arguments(advise)
    _sweep_arguments(advise)
    _advise_arguments(advise)

    resume = _command(commands, "resume", "resuming.resume", "go on with an interrupted run, or make a run longer, bit for bit")
    resume.add_argument("run", metavar="RUN", help="run folder")
    resume.add_argument(
        "--set", metavar="FIELD=VALUE", action="append", default=[], help="a greater length, e.g. run.updates=2000: a new folder"
    )
    resume.add_argument("--json", action="store_true", help="print the summary as one JSON object on stdout")
    _code_argument(resume)

    text = "simulate the timeline alone: throughput, staleness, utilisation (no torch)"
    plan = _command(commands, "plan", "running.plan", text)
    _scenario_arguments(plan)

    bench = _command(
        commands, "bench-engine", "running.bench_engine", "time every engine on a scenario and say which to write into it"
    )
    _scenario_arguments(bench)
    bench.add_argument("--variant", metavar="NAME", help="time only this one (default: every variant of the file)")
    bench.add_argument("--updates", metavar="N", type=_positive, default=400, help="length of a timed run (default: 400)")


def _command(commands: Commands, name: str, function: str, text: str) -> argparse.ArgumentParser:
    """A command; ``function`` is ``module.name`` in this room, imported when the command is called."""
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(command=function)
    return command


def _scenario_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE", help="scenario file (.yaml, .toml, .json)")
    command.add_argument(
        "--set", metavar="FIELD=VALUE", action="append", default=[], help="override a field, e.g. cluster.workers=32"
    )
    command.add_argument("--seed", metavar="N", type=int, help="one run with this seed, instead of the file's seeds")
    command.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, xpu or mps")
    command.add_argument("--verify", action="store_true", help="check while running that the laws of the simulation hold")
    command.add_argument("--json", action="store_true", help="print the summary as one JSON object on stdout")
    _code_argument(command)


def _code_argument(command: argparse.ArgumentParser) -> None:
    command.add_argument("--allow-code", action="store_true", help="run the Python files that tasks of kind python name")


def _run_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", metavar="DIR", default="runs", help="folder that run folders go into (default: runs)")
    command.add_argument("--force", action="store_true", help="run again, from the start, what is finished or begun already")
    command.add_argument("--processes", metavar="N", type=_positive, help="runs at a time (default: one per core)")
    command.add_argument("--no-figures", action="store_true", help="write no figures")
    command.add_argument(
        "--tracker", metavar="KIND:WHERE", action="append", default=[],
        help="report to tensorboard, mlflow or wandb, e.g. tensorboard:logs",
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


_positive.__name__ = "count of at least 1"


def _sweep_arguments(command: argparse.ArgumentParser) -> None:
    """The options that ``sweep`` has beside those of ``run``."""
    command.add_argument(
        "--grid",
        metavar="FIELD=V,V,...",
        action="append",
        default=[],
        help="sweep a field, e.g. cluster.workers=1,4,16; several make all combinations",
    )
    command.add_argument(
        "--zip", metavar="FIELD=V,V,...", action="append", default=[],
        help="sweep a field together with those of other --zip, value by value",
    )
    _many_arguments(command)


def _many_arguments(command: argparse.ArgumentParser) -> None:
    """The options of every command that does many runs."""
    command.add_argument("--seeds", metavar="N|S,S,...", help="seeds a point: a count, or a list, instead of the file's")
    command.add_argument(
        "--dry-run", action="store_true", help="show the runs and what they cost; run nothing but a short calibration"
    )
    _executor_arguments(command)


def _executor_arguments(command: argparse.ArgumentParser) -> None:
    """Where the runs are done; for ``run`` as well."""
    command.add_argument(
        "--executor", choices=("auto", "fleet", "processes", "ray"), default="auto",
        help="fleet: in this process, sharing gradient evaluations; processes: a pool; ray: a cluster (default: by --processes)",
    )  # fmt: skip
    command.add_argument(
        "--ray-address", metavar="ADDRESS", help="an existing Ray cluster, e.g. auto or host:6379 (default: a local one)"
    )
    command.add_argument("--cpus", metavar="N", type=_share, default=1.0, help="CPUs a run takes on Ray (default: 1)")
    command.add_argument("--gpus", metavar="N", type=_share, help="GPUs a run takes on Ray, e.g. 0.25 (default: 1 on cuda)")


def _advise_arguments(command: argparse.ArgumentParser) -> None:
    """The options that ``advise`` has beside those of ``sweep``."""
    command.add_argument(
        "--fleet", metavar="N|NAME={...}", action="append", default=[],
        help='a candidate fleet: a count of workers, or "spot={workers: 16, instance: aws_p3_2xlarge}"',
    )  # fmt: skip
    command.add_argument(
        "--method", metavar="KIND|NAME={...}", action="append", default=[],
        help='a candidate method: gap_aware, "tight={kind: ssp, bound: 1}"',
    )  # fmt: skip


def _run_readers(commands: Commands) -> None:
    """The commands that read runs."""
    plotting = _command(commands, "plot", "plotting.plot", "draw a figure of runs: PNG, PDF or SVG")
    plotting.add_argument("runs", metavar="RUNS", nargs="+", help="run folders, or folders of runs")
    plotting.add_argument("--kind", metavar="KIND", default="convergence", help="what to draw (see docs/plots.md)")
    plotting.add_argument("--metric", metavar="NAME", help="such as test_error, test_loss (default: the test error)")
    plotting.add_argument("--against", metavar="AXIS", help="time, updates, samples, dollars or joules")
    plotting.add_argument("--label", metavar="FIELD", help="field whose value names a curve, such as optimizer.lr")
    plotting.add_argument("--x", metavar="FIELD", help="field along x (default: workers)")
    plotting.add_argument("--y", metavar="FIELD", help="field along y, for a heat map")
    plotting.add_argument("--level", metavar="VALUE", type=float, help="level of the metric, for figures of targets and speedup")
    plotting.add_argument("--of", metavar="WHAT", help="what a speed-up is of: target or samples")
    plotting.add_argument("--baseline", metavar="LABEL", help="the curve that speed-ups are over (default: the study's)")
    plotting.add_argument("--by", choices=("stage",), help="split the staleness of a pipeline by its stages")
    plotting.add_argument("--theory", action="store_true", help="draw what theory predicts over it (see docs/theory.md)")
    plotting.add_argument("--start", metavar="SECONDS", type=float, help="virtual time at which a schedule begins")
    plotting.add_argument("--end", metavar="SECONDS", type=float, help="virtual time at which a schedule ends")
    plotting.add_argument("--batches", metavar="N", type=int, help="batches that a schedule shows (default: 8, or two a stage)")
    plotting.add_argument("--width", metavar="INCHES", type=float, help="of the figure (default: 3.3, a column of a paper)")
    plotting.add_argument("--out", metavar="FILE", help="ends in .png, .pdf or .svg (default: KIND.png)")

    comparing = _command(commands, "compare", "plotting.compare", "say how runs differ: scenario, timeline, metrics")
    comparing.add_argument(
        "runs", metavar="RUN", nargs="+", help="two or more run folders; the others are compared with the first"
    )
    comparing.add_argument("--json", action="store_true", help="as one JSON object")

    listing = _command(commands, "ls", "plotting.ls", "list the runs in a folder")
    listing.add_argument("folders", metavar="FOLDER", nargs="*", default=["runs"], help="default: runs")
    listing.add_argument("--json", action="store_true", help="as a JSON list")

    text = "write one HTML page about the runs in a folder, that opens offline"
    reporting = _command(commands, "report", "plotting.report", text)
    reporting.add_argument("folder", metavar="FOLDER")
    reporting.add_argument("--out", metavar="FILE", help="default: report.html in the folder")


def _calibrate(commands: Commands) -> None:
    text = "fit delays to measured durations, and say them as a scenario does; or measure this machine"
    calibrating = _command(commands, "calibrate", "calibrating.calibrate", text)
    calibrating.add_argument("trace", metavar="TRACE", nargs="?", help="CSV, Parquet or JSON Lines file, or a run folder")
    calibrating.add_argument("--column", metavar="NAME", default="seconds", help="column of durations (default: seconds)")
    calibrating.add_argument("--worker", metavar="NAME", default="worker", help="column of workers (default: worker, if any)")
    calibrating.add_argument("--unit", choices=UNITS, help="unit of the numbers (default: that of the column's name)")
    calibrating.add_argument(
        "--times", choices=("durations", "stamps", "intervals"), default="durations",
        help="what rows tell: durations (default), time stamps, whose differences count, or intervals from start to end",
    )
    calibrating.add_argument(
        "--span", choices=("compute", "download", "upload"), default="compute",
        help="which rows count, where a column tells kinds (default: compute)",
    )
    calibrating.add_argument("--empirical", metavar="FILE", help="write the durations to this CSV file, and draw from it")
    calibrating.add_argument("--plot", metavar="FILE", help="a figure of the fits: .png, .pdf or .svg")
    calibrating.add_argument("--json", action="store_true", help="as one JSON object")
    measuring = calibrating.add_argument_group("measuring")
    measuring.add_argument("--measure", metavar="TASK", help="time gradients of a task (name or scenario file) on this machine")
    measuring.add_argument("--gradients", metavar="N", type=_positive, help="gradients that are timed (default: 200)")
    measuring.add_argument("--warm-up", metavar="N", type=_positive, help="gradients before them, not counted (default: 20)")
    measuring.add_argument("--threads", metavar="N", type=_positive, help="PyTorch's threads (default: the scenario's, or 1)")
    measuring.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, xpu or mps")
    measuring.add_argument(
        "--out", metavar="FILE", help="trace that is written, .csv; the snippet goes beside it (default: TASK_seconds.csv)"
    )


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 10_000:
        raise ValueError(text)
    return value


_share.__name__ = "number of at least 0"


def _duration(text: str) -> float:
    """``90``, ``90s``, ``1.5min`` as virtual seconds."""
    from asyncsim.units import TIME

    unit = next((unit for unit in sorted(TIME, key=len, reverse=True) if text.endswith(unit)), "")
    return float(text.removesuffix(unit)) * TIME.get(unit, 1.0)


_duration.__name__ = "duration (such as 90s or 2min)"
