"""The command ``calibrate``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from asyncsim.cli.console import Console
from asyncsim.cli.layout import Column, show_table
from asyncsim.errors import UserError
from asyncsim.units import show_seconds

if TYPE_CHECKING:
    from asyncsim.calibration import Calibration, Differences, Fit

MEASURING = ("gradients", "warm_up", "threads", "device", "out")


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
    trace = arguments.trace
    written: list[str] = []
    if arguments.measure is not None:
        trace, about, written = _measured(arguments)
    layout = (arguments.column, arguments.worker, arguments.span, arguments.empirical, arguments.unit, arguments.times)
    made = calibration.calibrate(trace, *layout)
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
    console.print(f"read: {made.trace.said}", highlight=False, markup=False, soft_wrap=True)
    for name, fit in made.fits.items():
        console.say(_headline(made, name, fit))
        _table(fit, console)
    if made.differences is not None and len(made.differences.workers) > 1:
        console.say(_workers(made.differences))
    for note in made.notes:
        console.say(f"note: {note}")
    print(f"\n{made.yaml}")


def _headline(made: Calibration, name: str, fit: Fit) -> str:
    number = 1 if made.differences is None else len(made.differences.workers)
    fleet = f" of {number:,} workers" if number > 1 else ""
    divided = ", each over its worker's factor" if made.differences is not None and made.differences.heterogeneous else ""
    return (
        f"{name}: {len(fit.values):,} durations{fleet}{divided}: mean {show_seconds(fit.mean)}, cv {fit.cv:.3g}, "
        f"{show_seconds(float(fit.values[0]))} to {show_seconds(float(fit.values[-1]))}"
    )


def _table(fit: Fit, console: Console) -> None:
    titles = ("family", "log-likelihood", "AIC", "KS distance", "delay")
    rows, styles = [], []
    for one in fit.candidates:
        chosen = one is fit.chosen
        if one.family is None:
            told = one.refused or ""
        else:
            told = ", ".join(f"{key} {value:g}" for key, value in one.family.delay().items() if key != "kind")
        numbers = ("-" if value is None else f"{value:,.1f}" for value in (one.log_likelihood, one.aic))
        name = f"{one.kind} (chosen)" if chosen else one.kind
        rows.append((name, *numbers, "-" if one.ks is None else f"{one.ks:.4f}", told))
        styles.append("bold" if chosen else "" if one.family else "dim")
    columns = [Column(title, "left" if title in ("family", "delay") else "right", title == "delay") for title in titles]
    show_table(columns, rows, styles=styles, console=console)


def _workers(found: Differences) -> str:
    proof = "too few rows to tell" if found.p is None else f"p = {found.p:.2g}" if found.p else "p < 1e-300"
    told = f"cv {found.cv_machine:.3g} between them, {found.cv_batch:.3g} between batches of one; {proof}"
    return f"workers {'differ' if found.heterogeneous else 'count as equal'}: {told}"
