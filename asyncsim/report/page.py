"""One HTML page about the runs in a folder. It loads no script, style, font or picture from elsewhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asyncsim.errors import UserError
from asyncsim.plots.fields import baseline_label, labels_for
from asyncsim.plots.kinds import KINDS, figure, figure_bytes, headless
from asyncsim.plots.runs import find_runs, read_runs, study_baseline, study_order
from asyncsim.plots.style import DOUBLE
from asyncsim.plots.tables import task_metrics
from asyncsim.records import Result
from asyncsim.records.directory import TABLES, write_atomically
from asyncsim.report import sections
from asyncsim.report.markup import document, escape, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_SETTINGS = 12
"""Settings whose curves the page shows; of more, it says that they are left out."""
MOST_TABLES = 60
"""If there are more runs than this, figures that need pushes or events show only the first run of each label."""


def write_report(folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the page to ``out`` (by default ``report.html`` in ``folder``) and return its path. The same runs, the same bytes.

    Raises ``UserError``: no run that can be read, or a place that can't be written to.
    """
    folder = Path(folder)
    target = Path(out) if out is not None else folder / "report.html"
    if target.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{target}: name a file that ends in .html")
    page = render(folder)
    write_atomically(target, page.encode())
    return target


def render(folder: Path) -> str:
    """The text of the page."""
    paths = find_runs([folder])
    runs, broken = read_runs(paths)
    if not runs:
        raise UserError(f"{folder}: none of its {len(broken)} runs can be read; first: {next(iter(broken.values()))}")
    pairs = _ordered(list(zip(labels_for(runs), runs, strict=True)))
    labels, runs = [label for label, _ in pairs], [run for _, run in pairs]
    title = folder.resolve().name
    body = [
        sections.head(title, runs, labels),
        sections.troubles(folder, runs, broken),
        sections.methods(runs, labels),
        _stages(runs, labels),
        _figures(runs, labels),
        sections.every_run(folder, runs, labels),
        sections.scenarios(runs, labels),
        sections.environment(runs),
        sections.fingerprints(folder, runs),
    ]
    return document(title, "\n".join(part for part in body if part))


def _stages(runs: list[Result], labels: list[str]) -> str:
    """The section about stages, of the first run of each label whose model is cut."""
    first = {label: run for label, run in reversed(list(zip(labels, runs, strict=True))) if "stages" in run.summary}
    loaded = {label: _loaded(run, ("updates", "events")) for label, run in reversed(list(first.items()))}
    kept = {label: run for label, run in loaded.items() if None not in (run.tables.get("updates"), run.tables.get("events"))}
    return sections.stages(list(kept.values()), list(kept))


def _ordered(pairs: list[tuple[str, Result]]) -> list[tuple[str, Result]]:
    """Runs of one study in the order of its file, which `find_runs` has kept; others by label and folder."""
    folders = {run.path.parent for _, run in pairs if run.path is not None}
    if len(folders) == 1 and study_order(folders.pop()):
        return pairs
    return sorted(pairs, key=lambda pair: (_natural(pair[0]), _natural(str(pair[1].path))))


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Sorts ``N = 2`` before ``N = 16``."""
    return [(0, float(part), "") if part.isdecimal() else (1, 0.0, part) for part in re.split(r"(\d+)", text)]


def _figures(runs: list[Result], labels: list[str]) -> str:
    """The figures that can be drawn of these runs, and a list of the others with the reason."""
    headless()
    parts, missing = [], []
    for kind, caption, options, width in _wanted(runs, labels):
        chosen, names = _with_tables(kind, runs, labels)
        try:
            drawn = figure(kind, chosen, names, width, False, **options)
        except (UserError, ValueError) as error:  # these runs have no such numbers
            missing.append(f"{caption}: {error}")
            continue
        image = tag("img", None, src=_picture(drawn), alt=caption)
        parts.append(tag("figure", image + tag("figcaption", escape(caption))))
    many = len(set(labels))
    if many > MOST_SETTINGS:
        missing.insert(0, f"Curves, Gantt charts and shares of time of single settings: {many} are too many for one figure")
    body = tag("div", "".join(parts), class_="figures") if parts else ""
    if missing:
        listed = tag("ul", "".join(tag("li", escape(each)) for each in missing))
        body += tag("details", tag("summary", f"Not drawn: {len(missing)}") + listed)
    return tag("section", tag("h2", "Figures") + body) if body else ""


def _wanted(runs: list[Result], labels: list[str]) -> Iterator[tuple[str, str, dict[str, str], float | None]]:
    many = len({run.summary.get("workers") for run in runs if run.summary.get("workers")}) > 1
    cut = any("stages" in run.summary for run in runs)
    if any(task_metrics(run) for run in runs) and len(set(labels)) <= MOST_SETTINGS:
        yield "convergence", "Against virtual time: means over seeds, bands from the smallest to the largest", {}, None
        yield "convergence", "The same against updates", {"against": "updates"}, None
        if any("cost" in run.summary for run in runs):
            yield "convergence", "The same against dollars", {"against": "dollars"}, None
            yield "convergence", "The same against joules", {"against": "joules"}, None
    if many:
        yield "final", "At the end of the runs, against worker counts", {}, None
        yield "time_to_target", "Virtual time to the target, against worker counts", {}, None
        yield "cost_to_target", "Dollars to the target, against worker counts", {}, None
        yield "energy_to_target", "Joules to the target, against worker counts", {}, None
        baseline = baseline_label(runs, study_baseline(run.path for run in runs if run.path is not None))
        yield "speedup", "Speed-up against worker counts", {"baseline": baseline} if baseline else {}, None
    if len(set(labels)) <= MOST_SETTINGS:
        yield "staleness", "Staleness of the pushes", {}, None
        if cut:
            yield "staleness", "Staleness of the pushes, by stage", {"by": "stage"}, None
        yield "gap_over_time", "Gap in equal spans of the run: means, and the 5th to 95th percentile of the pushes", {}, None
        yield "penalty_over_time", "Penalty in equal spans of the run", {}, None
        yield "time_shares", "How the workers' time was spent", {}, None
        yield "gantt", "Who did what when, at the start", {}, None
        if cut:
            yield "schedule", "Which stage forwards and backwards which batch when, at the start", {}, DOUBLE


def _with_tables(kind: str, runs: list[Result], labels: list[str]) -> tuple[list[Result], list[str] | None]:
    """The runs with the tables that a figure needs. Labels of figures against N leave out the worker count."""
    tables = KINDS[kind].tables
    if kind in ("final", "time_to_target", "cost_to_target", "energy_to_target", "speedup"):
        return runs, None
    pairs = list(zip(runs, labels, strict=True))
    if len(runs) > MOST_TABLES and tables not in ((), ("metrics",)):
        pairs = list({label: (run, label) for run, label in reversed(pairs)}.values())[::-1]
    loaded = [(_loaded(run, tables), label) for run, label in pairs]
    kept = [(run, label) for run, label in loaded if all(len(getattr(run, name)) for name in tables)]
    return [run for run, _ in kept], [label for _, label in kept]


def _loaded(run: Result, tables: tuple[str, ...]) -> Result:
    missing = [name for name in tables if name not in run.tables]
    if not missing or run.path is None:
        return run
    found, broken = read_runs([run.path], [name for name in TABLES if name in tables])
    return found[0] if not broken else run


def _picture(drawn: Figure) -> str:
    """A figure as a data URI, closed: inside one, pictures share no ids and can fetch nothing."""
    return f"data:image/svg+xml;base64,{base64.b64encode(figure_bytes(drawn, 'svg')).decode()}"
