"""The sections of the page, in their order."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from asyncsim.errors import UserError
from asyncsim.plots.fields import SEED, differing, method_of, say, scenario_fields, workers_of
from asyncsim.plots.runs import status_of
from asyncsim.plots.tables import diverged, task_metrics
from asyncsim.records import Result
from asyncsim.records.reading import MOST_MANIFEST
from asyncsim.report.markup import Cell, escape, table, tag
from asyncsim.units import show_dollars, show_joules, show_seconds
from asyncsim.userfiles import read_text

SPENT = ("cost", "cost_to_target", "energy", "energy_to_target")
NUMBERS = ("staleness_mean", "staleness_max", "gap_mean", "penalty_mean", "utilisation", "samples_per_second", "wall_seconds")


def head(title: str, runs: list[Result], labels: list[str]) -> str:
    states: dict[str, int] = {}
    for run in runs:
        states[status_of(run)] = states.get(status_of(run), 0) + 1
    counts = sorted({count for run in runs if (count := workers_of(run)) is not None})
    words = [_count(len(runs), "run"), _count(len(set(labels)), "setting")]
    words += [f"{_span(counts)} workers"] if counts else []
    words += [f"{number} {state}" for state, number in states.items()]
    return tag("header", tag("h1", escape(title)) + tag("p", escape(" · ".join(words)), class_="lead"))


def troubles(folder: Path, runs: list[Result], broken: dict[Path, str]) -> str:
    """The section about runs that did not end well; empty if all did."""
    rows = []
    for run in runs:
        state = status_of(run)
        if state == "finished":
            continue
        told = "nobody noted an end: it is going on, or was killed" if state == "running" else str(run.manifest.get("error", ""))
        if state == "diverged" and None not in (run.summary.get("diverged_at_update"), run.summary.get("diverged_at_time")):
            told = f"at update {run.summary['diverged_at_update']:,}, {show_seconds(run.summary['diverged_at_time'])}"
        rows.append([Cell(_place(folder, run.path)), Cell(state, style="bad"), Cell(told)])
    rows += [[Cell(_place(folder, path)), Cell("unreadable", style="bad"), Cell(error)] for path, error in broken.items()]
    if not rows:
        return ""
    return tag("section", tag("h2", "What diverged or failed") + table(["run", "status", "what happened"], rows))


def methods(runs: list[Result], labels: list[str]) -> str:
    """One row for each label, with means and standard deviations over its seeds. Diverged runs are counted, and enter no mean
    of a metric."""
    groups: dict[str, list[Result]] = {}
    for run, label in zip(runs, labels, strict=True):
        groups.setdefault(label, []).append(run)
    metrics, numbers = _metrics(runs), _numbers(runs)
    rows = []
    for label, group in groups.items():
        lost = sum(diverged(run) for run in group)
        ended = [run for run in group if "updates" in run.summary]
        reached = [value for run in ended if (value := run.summary.get("time_to_target")) is not None]
        goal = any("time_to_target" in run.summary for run in ended)
        rows.append([
            Cell(label), Cell(method_of(group[0])), _number(workers_of(group[0])), _number(len(group)),
            Cell(str(lost), lost, "bad") if lost else Cell("0", 0),
            *(_spread([run.summary.get(name) for run in group if not diverged(run)], name) for name in metrics),
            _spread([run.summary.get("time") for run in ended], "time"),
            _spread(reached, "time", f" ({len(reached)} of {len(group)})" if len(reached) < len(group) else "")
            if reached else Cell("never" if goal else "-"),
            *(_spread([run.summary.get(name) for run in ended], name) for name in numbers),
        ])  # fmt: skip
    titles = ["setting", "method", "workers", "runs", "diverged", *map(_title, metrics), "virtual time", "time to target",
              *map(_title, numbers)]  # fmt: skip
    note = tag(
        "p", "Means ± standard deviations over seeds. A diverged run is counted and is in no mean of a metric.", class_="soft"
    )
    return tag("section", tag("h2", "Settings side by side") + table(titles, rows) + note)


def stages(runs: list[Result], labels: list[str]) -> str:
    """One row for each stage of each run that the caller has chosen; empty without any. The runs need the tables of pushes and
    events."""
    tables = {label: run.stages for label, run in zip(labels, runs, strict=True)}
    names = list(dict.fromkeys(str(name) for frame in tables.values() for name in frame))
    rows = [
        [Cell(label), _number(stage), *(_spread([values.get(name)], name) for name in names)]
        for label, frame in tables.items()
        for stage, values in enumerate(frame.to_dict("records"), start=1)
    ]
    told = "Of one run a setting. Stash: batches between their two passes. Versions: kept at once, if backward passes are done on"
    note = tag("p", f"{told} the parameters of their forward passes.", class_="soft")
    return tag("section", tag("h2", "Stages") + table(["setting", "stage", *map(_title, names)], rows) + note) if rows else ""


def every_run(folder: Path, runs: list[Result], labels: list[str]) -> str:
    metrics, numbers = _metrics(runs), _numbers(runs)
    rows = []
    for run, label in zip(runs, labels, strict=True):
        state = status_of(run)
        seed = run.summary.get("seed", run.manifest["scenario"].get("seed"))
        rows.append([
            Cell(_place(folder, run.path)), Cell(label), _number(workers_of(run)), _number(seed),
            Cell(state, style="" if state == "finished" else "bad"), _number(run.summary.get("updates")),
            *(_spread([run.summary.get(name)], name) for name in metrics),
            *(_spread([run.summary.get(name)], name) for name in ("time", *numbers)),
        ])  # fmt: skip
    titles = [
        "run",
        "setting",
        "workers",
        "seed",
        "status",
        "updates",
        *map(_title, metrics),
        "virtual time",
        *map(_title, numbers),
    ]
    return tag("section", tag("h2", "All runs") + table(titles, rows))


def scenarios(runs: list[Result], labels: list[str]) -> str:
    """What differs between the settings, and the first run's scenario of each (of the first, where there are many)."""
    first: dict[str, Result] = {}
    for run, label in zip(runs, labels, strict=True):
        first.setdefault(label, run)
    fields = differing(list(first.values()), SEED)
    parts = [tag("h2", "Scenario")]
    if fields:
        rows = [[Cell(label), *(Cell(say(scenario_fields(run).get(name))) for name in fields)] for label, run in first.items()]
        parts += [tag("p", "Fields in which the settings differ:"), table(["setting", *fields], rows)]
    for place, (label, run) in enumerate(first.items()):
        if place == 0 or len(first) <= 12:
            opened = tag("summary", f"Scenario of {escape(label)}, seed {escape(str(run.manifest['scenario'].get('seed', 0)))}")
            parts.append(tag("details", opened + tag("pre", escape(_yaml(run)))))
    return tag("section", "".join(parts))


def environment(runs: list[Result]) -> str:
    """Versions, device and engine, with one row for each different combination."""
    rows: dict[str, tuple[dict[str, str], int]] = {}
    for run in runs:
        engine = run.manifest["engine"]
        told = {
            **{name: str(number) for name, number in dict(run.manifest["versions"]).items()},
            "machine": str(run.manifest.get("machine", "-")), "device": str(run.manifest["device"]),
            "threads": str(run.manifest.get("threads", "-")),
            "engine": ", ".join(f"{key} {say(value)}" for key, value in dict(engine).items()),
            "parameters": say(run.manifest.get("parameters")),
        }  # fmt: skip
        key = json.dumps(told, sort_keys=True)
        rows[key] = told, rows.get(key, (told, 0))[1] + 1
    titles = list(dict.fromkeys(name for told, _ in rows.values() for name in told))
    lines = [[Cell(str(count), count), *(Cell(told.get(name, "-")) for name in titles)] for told, count in rows.values()]
    return tag("section", tag("h2", "Environment") + table(["runs", *titles], lines, sortable=False))


def fingerprints(folder: Path, runs: list[Result]) -> str:
    rows = [
        [Cell(_place(folder, run.path)), Cell(str(run.manifest["hash"]), style="mono"),
         *(Cell(str(run.fingerprints.get(name, "-")), style="mono") for name in ("timeline", "trajectory"))]
        for run in runs
    ]  # fmt: skip
    inside = table(["run", "scenario", "timeline", "trajectory"], rows)
    return tag("section", tag("h2", "Fingerprints") + tag("details", tag("summary", _count(len(runs), "run")) + inside))


def _yaml(run: Result) -> str:
    try:
        if run.path is None:
            raise UserError("the run is in no folder")
        return read_text(run.path / "scenario.yaml", MOST_MANIFEST)
    except UserError:
        return json.dumps(run.manifest["scenario"], indent=2)


def _metrics(runs: list[Result]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in task_metrics(run)))


def _numbers(runs: list[Result]) -> list[str]:
    """Columns that every table has, and those of runs with prices."""
    return [*(name for name in SPENT if any(run.summary.get(name) is not None for run in runs)), *NUMBERS]


def _place(folder: Path, path: Path | None) -> str:
    if path is None:
        return "-"
    inside = path.relative_to(folder) if path.is_relative_to(folder) else path
    return str(inside) if str(inside) != "." else path.resolve().name


def _title(name: str) -> str:
    return {"wall_seconds": "wall time"}.get(name, name.replace("_", " "))


def _number(value: Any) -> Cell:
    return Cell("-") if value is None else Cell(f"{value:,}" if isinstance(value, int) else say(value), value)


def _spread(values: list[Any], name: str, more: str = "") -> Cell:
    """Mean, and standard deviation where there are several."""
    numbers = [float(value) for value in values if isinstance(value, int | float) and math.isfinite(value)]
    if not numbers:
        return Cell("-")
    mean, sd = float(np.mean(numbers)), float(np.std(numbers, ddof=1)) if len(set(numbers)) > 1 else None
    if name in ("time", "wall_seconds", "first_backward"):
        return Cell(show_seconds(mean) + more, mean)
    if name in SPENT:
        show = show_dollars if name.startswith("cost") else show_joules
        return Cell(show(mean) + (f" ± {show(sd)}" if sd else "") + more, mean)
    if name.endswith(("_accuracy", "_error")) or name in ("utilisation", "busy", "waiting"):
        return Cell(f"{100 * mean:.2f}" + (f" ± {100 * sd:.2f}" if sd is not None else "") + " %" + more, mean)
    return Cell(f"{mean:,.4g}" + (f" ± {sd:.2g}" if sd else "") + more, mean)


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _span(counts: list[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
