"""The command ``calibrate``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from asyncsim.cli.console import Console
from asyncsim.errors import UserError
from asyncsim.units import show_seconds

if TYPE_CHECKING:
    from asyncsim.calibration import Calibration, Differences, Fit

MEASURING = ("gradients", "warm_up", "threads", "device", "out")


def arguments(commands: Any, command: Callable[..., argparse.ArgumentParser], count: Callable[[str], int]) -> None:
    """Add the command to the parser. ``count`` parses whole numbers from 1 on."""
    text = "fit delays to measured durations, and say them as a scenario does; or measure this machine"
    calibrating = command(commands, "calibrate", calibrate, text)
    calibrating.add_argument("trace", metavar="TRACE", nargs="?", help="CSV, Parquet or JSON Lines file, or a run folder")
    calibrating.add_argument("--column", metavar="NAME", default="seconds", help="column of durations (default: seconds)")
    calibrating.add_argument("--worker", metavar="NAME", default="worker", help="column of workers (default: worker, if any)")
    calibrating.add_argument(
        "--span", choices=("compute", "download", "upload"), default="compute", help="of events, which count (default: compute)"
    )
    calibrating.add_argument("--empirical", metavar="FILE", help="write the durations to this CSV file, and draw from it")
    calibrating.add_argument("--plot", metavar="FILE", help="a figure of the fits: .png, .pdf or .svg")
    calibrating.add_argument("--json", action="store_true", help="as one JSON object")
    measuring = calibrating.add_argument_group("measuring")
    measuring.add_argument("--measure", metavar="TASK", help="time gradients of a task (name or scenario file) on this machine")
    measuring.add_argument("--gradients", metavar="N", type=count, help="that are timed (default: 200)")
    measuring.add_argument("--warm-up", metavar="N", type=count, help="gradients before them (default: 20)")
    measuring.add_argument("--threads", metavar="N", type=count, help="of PyTorch (default: the scenario's, or 1)")
    measuring.add_argument("--device", metavar="NAME", help="cpu, cuda, cuda:1, mps")
    measuring.add_argument(
        "--out", metavar="FILE", help="trace that is written, .csv; the snippet goes beside it (default: TASK_seconds.csv)"
    )


def calibrate(arguments: argparse.Namespace) -> int:
    """Fit a trace that is given, or measure one first."""
    from asyncsim import calibration
    from asyncsim.plots.kinds import check_format

    if (arguments.trace is None) == (arguments.measure is None):
        raise UserError("calibrate: name a trace, or a task with --measure" + (", not both" if arguments.trace else ""))
    given = [name for name in MEASURING if getattr(arguments, name) is not None]
    if given and arguments.measure is None:
        raise UserError(f"calibrate: --{given[0].replace('_', '-')} is allowed only with --measure")
    if arguments.plot is not None:
        check_format(Path(arguments.plot))
    trace, written = arguments.trace, []
    if arguments.measure is not None:
        trace, about, written = _measured(arguments)
    made = calibration.calibrate(trace, arguments.column, arguments.worker, arguments.span, arguments.empirical)
    if arguments.empirical is not None:
        written.append(f"durations: {arguments.empirical}")
    if arguments.plot is not None:
        written.append(f"figure: {_plot(made, Path(arguments.plot))}")
    if arguments.json:
        print(json.dumps(made.document() | ({"measured": about} if arguments.measure else {}), allow_nan=False))
        return 0
    if arguments.measure is not None:
        print(about)
    _show(made)
    for line in written:
        print(line)
    return 0


def _measured(arguments: argparse.Namespace) -> tuple[Path, str, list[str]]:
    """The trace of a measurement, a description of what was measured, and the files that were written."""
    from asyncsim.calibration.measuring import check_place, measure, scenario_of

    task = arguments.measure
    out = check_place(arguments.out or f"{Path(task).stem}_seconds.csv")
    scenario = scenario_of(task, arguments.device, arguments.threads)
    found = measure(scenario, arguments.gradients or 200, arguments.warm_up or 20)
    trace, snippet, _ = found.write(out)
    return trace, found.about, [f"trace: {trace}", f"snippet: {snippet}"]


def _plot(made: Calibration, path: Path) -> Path:
    from asyncsim.plots.fits import fits
    from asyncsim.plots.kinds import headless, write_figure

    headless()
    return write_figure(fits(made), path)


def _show(made: Calibration) -> None:
    console = Console()
    for name, fit in made.fits.items():
        console.print(_headline(made, name, fit), highlight=False, markup=False, soft_wrap=True)
        console.print(_table(fit), highlight=False)
    if made.differences is not None and len(made.differences.workers) > 1:
        console.print(_workers(made.differences), highlight=False, markup=False, soft_wrap=True)
    for note in made.notes:
        console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)
    print(f"\n{made.yaml}")


def _headline(made: Calibration, name: str, fit: Fit) -> str:
    number = 1 if made.differences is None else len(made.differences.workers)
    fleet = f" of {number:,} workers" if number > 1 else ""
    divided = ", each over its worker's factor" if made.differences is not None and made.differences.heterogeneous else ""
    return (
        f"{name}: {len(fit.values):,} durations{fleet}{divided}: mean {show_seconds(fit.mean)}, cv {fit.cv:.3g}, "
        f"{show_seconds(float(fit.values[0]))} to {show_seconds(float(fit.values[-1]))}"
    )


def _table(fit: Fit) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("family", "log-likelihood", "AIC", "KS distance", "delay"):
        table.add_column(title, justify="left" if title in ("family", "delay") else "right")
    for one in fit.candidates:
        chosen = one is fit.chosen
        if one.family is None:
            told = one.refused or ""
        else:
            told = ", ".join(f"{key} {value:g}" for key, value in one.family.delay().items() if key != "kind")
        numbers = ("-" if value is None else f"{value:,.1f}" for value in (one.log_likelihood, one.aic))
        table.add_row(
            f"{one.kind} (chosen)" if chosen else one.kind, *numbers, "-" if one.ks is None else f"{one.ks:.4f}", told,
            style="bold" if chosen else None if one.family else "dim",
        )  # fmt: skip
    return table


def _workers(found: Differences) -> str:
    proof = "too few rows to tell" if found.p is None else f"p = {found.p:.2g}" if found.p else "p < 1e-300"
    told = f"cv {found.cv_machine:.3g} between them, {found.cv_batch:.3g} between batches of one; {proof}"
    return f"workers {'differ' if found.heterogeneous else 'count as equal'}: {told}"
