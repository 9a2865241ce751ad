"""The commands that read runs: ``plot``, ``compare``, ``ls``, ``report``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from asyncsim.cli.console import Console
from asyncsim.cli.layout import Column, Side, show_table
from asyncsim.errors import UserError
from asyncsim.units import show_seconds

OPTIONS = ("metric", "against", "x", "y", "level", "of", "baseline", "by", "start", "end", "batches")


def plot(arguments: argparse.Namespace) -> int:
    """Draw one figure."""
    from asyncsim.plots.fields import baseline_label
    from asyncsim.plots.kinds import check_format, check_theory, figure, headless, kind_of, tables_for, write_figure
    from asyncsim.plots.remarks import remarks
    from asyncsim.plots.runs import find_runs, read_run, study_baseline

    kind_of(arguments.kind)
    if arguments.theory:
        check_theory(arguments.kind)
    name = arguments.kind.replace("-", "_")
    out = Path(arguments.out or f"{name}.png")
    check_format(out)
    if arguments.width is not None and not 1 <= arguments.width <= 40:
        raise UserError(f"--width {arguments.width:g}: must be from 1 to 40 inches")
    options = {option: getattr(arguments, option) for option in OPTIONS}
    paths = find_runs(arguments.runs)
    results = [read_run(path, tables_for(name, arguments.level, arguments.theory)) for path in paths]
    if name == "speedup" and arguments.baseline is None and arguments.label is None:
        options["baseline"] = baseline_label(results, study_baseline(paths))
    headless()
    drawn = figure(name, results, arguments.label, arguments.width, arguments.theory, **options)
    said = remarks(drawn)
    print(f"figure: {write_figure(drawn, out)}")
    for text in said:
        Console(stderr=True).say(f"{out.name}: {text}")
    return 0


def compare(arguments: argparse.Namespace) -> int:
    """Compare each of the runs with the first."""
    from asyncsim.plots.runs import read_run
    from asyncsim.report.differences import compare_runs

    if len(arguments.runs) < 2:
        raise UserError("compare: name two or more run folders")
    found = compare_runs([read_run(Path(run), ("updates", "events")) for run in arguments.runs])
    if arguments.json:
        print(json.dumps(found, allow_nan=False))
        return 0
    console = Console()
    letters = [chr(ord("A") + place) if place < 26 else str(place) for place in range(len(found["runs"]))]
    for letter, name in zip(letters, found["runs"], strict=True):
        console.say(f"{letter}: {name}")
    scenario = {field: values for field, values in found["scenario"].items() if field != "name"}
    if scenario:
        _side_by_side("scenario", letters, scenario)
    else:
        console.say("\nscenario: the same")
    parted = zip(letters[1:], found["timelines"], found["trajectories"], found["notes"], strict=True)
    for letter, timeline, trajectory, note in parted:
        console.say(f"\n{letter} against A", style="bold")
        console.say(_timeline(timeline, letter))
        console.say(_trajectory(trajectory, letter))
        if note is not None:
            console.say(f"note: {note}")
    _side_by_side("numbers", letters, found["numbers"])
    return 0


def _side_by_side(title: str, letters: list[str], rows: dict[str, list[Any]]) -> None:
    side: Side = "right" if title == "numbers" else "left"
    cells = [(name, *map(_cell, values)) for name, values in rows.items()]
    styles = ["" if any(value != values[0] for value in values) else "dim" for values in rows.values()]
    show_table([Column("", "left"), *(Column(letter, side) for letter in letters)], cells, f"\n{title}", styles=styles)


def _timeline(found: dict[str, Any], letter: str) -> str:
    if found["same"]:
        return "timeline: the same"
    if "spans" not in found:
        return f"timeline: {'differs' if found['same'] is False else 'unknown'}; {found['why']}"
    told = [
        f"  {name}: {_span(span)}" for name, span in zip(("A", letter), found["spans"], strict=True)
    ]  # fmt: skip
    return "\n".join([f"timeline: parts at {show_seconds(found['time'])}, worker {found['worker']}:", *told])


def _span(span: dict[str, Any] | None) -> str:
    if span is None:
        return "nothing more is recorded"
    cut = "" if span["complete"] else ", cut short"
    return f"{span['kind']}, step {span['step']}, {span['start']:.9g} s to {span['end']:.9g} s{cut}"


def _trajectory(found: dict[str, Any], letter: str) -> str:
    if found["same"]:
        return "trajectory: the same"
    if "push" not in found:
        return f"trajectory: {'differs' if found['same'] is False else 'unknown'}; {found.get('why', '')}"
    values = ", ".join(f"{name}: {_cell(value)}" for name, value in zip(("A", letter), found["values"], strict=True))
    return f"trajectory: parts at push {found['push']:,} ({show_seconds(found['time'])}), {found['column']}; {values}"


def ls(arguments: argparse.Namespace) -> int:
    """List the runs in a folder, one line each."""
    from asyncsim.report.listing import list_runs

    rows, broken = list_runs(arguments.folders)
    if arguments.json:
        unreadable = [{"path": str(path), "status": "unreadable", "error": error} for path, error in broken.items()]
        print(json.dumps(rows + unreadable, allow_nan=False))
        return 0
    metrics = {row["metric"] for row in rows if row["metric"]}
    metric = metrics.pop().replace("_", " ") if len(metrics) == 1 else "metric"
    titles: dict[str, Side] = {"name": "left", "method": "left", "workers": "right", "seed": "right", "status": "left",
              "updates": "right", metric: "right", "virtual time": "right", "age": "right", "folder": "left"}  # fmt: skip
    styles = {"diverged": "red", "failed": "red", "interrupted": "yellow", "running": "yellow"}
    cells = []
    for row in rows:
        value = _metric(row["metric"], row["value"])
        if metric == "metric" and row["value"] is not None:
            value = f"{row['metric'].replace('_', ' ')} {value}"
        time = "-" if row["time"] is None else show_seconds(row["time"])
        cells.append((row["name"], row["method"], _cell(row["workers"]), _cell(row["seed"]), row["status"], _cell(row["updates"]),
                      value, time, _age(row["age"]), Path(row["path"]).name))  # fmt: skip
    console = Console()
    columns = [Column(title, side) for title, side in titles.items()]
    show_table(columns, cells, styles=[styles.get(row["status"], "") for row in rows], console=console)
    for error in broken.values():
        console.say(f"unreadable: {error}")
    return 0


def report(arguments: argparse.Namespace) -> int:
    """Write the HTML page about the runs in a folder."""
    from asyncsim.report.page import write_report

    print(f"report: {write_report(arguments.folder, arguments.out)}")
    return 0


def _metric(name: str | None, value: float | None) -> str:
    if name is None or value is None:
        return "-"
    return f"{100 * value:.2f} %" if name.endswith(("_error", "_accuracy")) else f"{value:.4g}"


def _age(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
