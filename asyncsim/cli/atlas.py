"""The command ``atlas``: all methods at all conditions and worker counts, as one table, one figure and one page."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncsim.cli import sweeping
from asyncsim.cli.console import Console, say
from asyncsim.cli.layout import Column, show_table
from asyncsim.cli.notes import tell_unreached
from asyncsim.scenario.atlas_study import AtlasStudy, LeftOut
from asyncsim.scenario.files import load_atlas
from asyncsim.units import show_dollars, show_seconds

if TYPE_CHECKING:
    from asyncsim.sweep.atlas import Atlas


def atlas(arguments: argparse.Namespace) -> int:
    """Run an atlas, and write its table, figure, page and the scenario file of every cell. The exit code is 1 if some runs
    failed, or if nothing could be chosen for a cell."""
    from asyncsim.sweep import run_folder
    from asyncsim.sweep.atlas import draw_atlas
    from asyncsim.sweep.cost import forecast
    from asyncsim.sweep.runner import failures

    surveys: list[AtlasStudy] = []

    def load(*given: Any) -> Any:
        surveys.append(load_atlas(*given))
        return surveys[0].study

    study = sweeping.study_of(arguments, load)
    survey = surveys[0]
    tell = lambda text: print(text, file=sys.stderr)  # noqa: E731
    if not arguments.json:
        for line in left_out(survey.left_out):
            tell(line)
    if arguments.dry_run:
        return sweeping.dry_run(arguments, study)
    out = Path(arguments.out)
    assert study.tune is not None
    if not arguments.json:
        told = forecast(study, out, arguments.force)
        seconds = told.seconds / sweeping.abreast(arguments, told)
        tell(f"{sweeping.describe(study, told.runs)}\n{sweeping.tuning(study.tune, told)}")
        tell(f"about {show_seconds(seconds)} of wall time (timed on short runs here); Ctrl-C saves, and the same command goes on")
    result = sweeping.simulated(arguments, study)
    drawn, folder = draw_atlas(result, survey), run_folder(out, study, 0).parent
    drawn.write(folder)
    if arguments.json:
        print(json.dumps(drawn.document(), allow_nan=False))
    else:
        _show(drawn)
    if not arguments.no_figures:
        from asyncsim.report.atlas import write_page

        written = write_page(drawn, folder, Console(stderr=True).say)
        say(arguments, f"page: {written}")
    say(arguments, f"table: {folder / 'atlas.csv'}")
    tell_unreached(sweeping.ended(result))
    sweeping.tell_failed(failures(result.study, result.errors), study)
    return 1 if result.errors or result.undecided else 0


def left_out(found: tuple[LeftOut, ...]) -> list[str]:
    """One line for each reason for which methods were left out everywhere, and one for each that does not fit some places."""
    reasons: dict[str, list[str]] = {}
    for each in found:
        if each.everywhere and each.reason:
            reasons.setdefault(each.reason, []).append(each.method)
    lines = [f"left out: {', '.join(dict.fromkeys(names))}: {reason}" for reason, names in reasons.items()]
    for each in found:
        if not each.everywhere:
            places = ", ".join(f"{condition} with {count}" for condition, count in each.places)
            lines.append(f"left out: {each.method} at {places}: {each.reason}")
    return lines


def _show(drawn: Atlas) -> None:
    """Print a row for each method at a condition: error, time and dollars for every worker count."""
    shows = {"error": drawn.show_error, "time": show_seconds, "dollars": show_dollars}
    counts = list(dict.fromkeys(count for _, count in drawn.places))
    columns = [Column("condition", "left"), Column("method", "left")]
    columns += [Column(f"{measure}, N = {count}") for measure in drawn.measures for count in counts]
    rows = []
    for condition in drawn.conditions:
        for method in drawn.methods:
            cells = []
            for measure in drawn.measures:
                for count in counts:
                    row = drawn.cell(method, (condition, count))
                    cells.append(cell_text(row, measure, shows[measure], drawn.goal))
            rows.append((condition, method, *cells))
    caption = "time and dollars are those of the whole run" if drawn.goal is None else f"time and dollars to {drawn.goal}"
    show_table(columns, rows, drawn.name, f"{caption}; * best of its column, ~ the seeds do not tell it from the best", keys=2)


def cell_text(row: Any, measure: str, show: Any, goal: str | None) -> str:
    """A number of a cell, or why it has none."""
    if row["note"].startswith("left out"):
        return "-"
    if not math.isfinite(row[measure]):
        return row["note"] or ("never" if goal is not None and measure != "error" else "-")
    near = "~" if measure == "error" and row["error_near"] else ""
    marks = ("*" if row[f"{measure}_best"] else near) + (f" ({row['note']})" if row["note"] and measure == "error" else "")
    return f"{show(row[measure])}{marks}"
