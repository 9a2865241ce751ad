"""The page of an atlas: every cell with a link to the scenario file that runs it again. It loads nothing from elsewhere."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pandas as pd

from asyncsim.plots.atlas import atlas_figure
from asyncsim.plots.kinds import figure_bytes, write_figure
from asyncsim.plots.remarks import remarks
from asyncsim.records.directory import write_atomically
from asyncsim.report.markup import Cell, document, escape, table, tag
from asyncsim.scenario.dump import dump_document
from asyncsim.units import show_dollars, show_seconds

if TYPE_CHECKING:
    from asyncsim.sweep.atlas import Atlas

PAGE, FIGURE = "atlas.html", "atlas.png"
STYLE = """
td:first-child, th:first-child { position: sticky; left: 0; background: var(--paper); padding-right: 1rem }
td.near { background: var(--mark) } td.best { background: var(--mark); font-weight: 600 } td a { color: inherit }
td small { display: block; color: var(--soft); font-weight: 400 } td.bad a { color: var(--bad) }
.whole img { width: 100%; max-width: none }
.prose td { white-space: normal; min-width: 12rem } ul { padding-left: 1.2rem }
"""


def write_page(atlas: Atlas, folder: Path, tell: Callable[[str], None]) -> Path:
    """Write the page and the figure into the folder of the atlas, and return the path of the page; ``tell`` is called with what
    the figure leaves out. The same atlas, the same bytes."""
    drawn = atlas_figure(atlas)
    said = remarks(drawn)
    write_figure(drawn, folder / FIGURE)
    page = folder / PAGE
    write_atomically(page, render(atlas).encode())
    for text in said:
        tell(f"{FIGURE}: {text}")
    return page


def render(atlas: Atlas) -> str:
    """The text of the page."""
    body = [_head(atlas), _reading(atlas)]
    body += [_matrix(atlas, measure) for measure in atlas.measures]
    body += [_figure(atlas), _choices(atlas), _conditions(atlas), _left_out(atlas)]
    return document(f"Atlas: {atlas.name}", "\n".join(part for part in body if part), STYLE)


def _head(atlas: Atlas) -> str:
    cells = atlas.table[atlas.table["scenario"] != ""]
    counts = sorted({count for _, count in atlas.places})
    words = [f"{len(atlas.methods)} methods", f"{len(atlas.conditions)} conditions", f"{', '.join(map(str, counts))} workers",
             f"{atlas.seeds} seed{'s' if atlas.seeds > 1 else ''} a cell", f"{int(cells['runs'].sum()):,} runs"]  # fmt: skip
    title = tag("h1", escape(f"Atlas: {atlas.name}")) + tag("p", escape(" · ".join(words)), class_="lead")
    return tag("header", title)


def _reading(atlas: Atlas) -> str:
    """What was compared, and how to read the tables."""
    length, tune = atlas.scenario.run, atlas.tune
    budgets = [f"{length.samples:,} samples" if length.samples else "", f"{length.updates:,} updates" if length.updates else "",
               f"{show_seconds(length.time)} of virtual time" if length.time else ""]  # fmt: skip
    tried = dict.fromkeys((tune.of(name).field, _values(tune.of(name))) for name in atlas.methods)
    until = f"to {atlas.goal}" if atlas.goal else "of the whole run"
    spent = " What seeds spent that never reached it is counted, divided by how many did." if atlas.goal else ""
    items = [
        f"Every run ends after {' or '.join(filter(None, budgets))}, whatever the method: every trial as well.",
        f"Chosen for every method at every condition and worker count, by {tune.metric.replace('_', ' ')} over "
        f"{tune.seeds} seed{'s' if tune.seeds > 1 else ''} that no result below has: "
        + "; ".join(f"{field} among {values}" for field, values in tried)
        + ". † marks a choice at the edge of what was tried: a better one may lie beyond it.",
        f"The error is {_words(atlas)}; below it is the 95 % bootstrap interval of the mean over seeds"
        + (", with fewer than five seeds little more than their range." if atlas.seeds < 5 else "."),
        f"Time {'and dollars are' if 'dollars' in atlas.measures else 'is'} {until}.{spent}",
        "In bold: the best method of a column; shaded with it: those whose interval of the error reaches that of the best. A "
        "cell in which a seed diverged is never the best, and its mean leaves that seed out.",
        "Every number is a link to a scenario file beside this page: asyncsim run FILE gives the same runs, bit for bit.",
    ]
    return tag("section", tag("h2", "What is compared") + tag("ul", "".join(tag("li", escape(item)) for item in items)))


def _words(atlas: Atlas) -> str:
    """What the error is, in words."""
    metric = atlas.metric.replace("_", " ")
    return f"one minus the {metric} at the end" if metric.endswith("accuracy") else f"the {metric} at the end"


def _values(tune: Any) -> str:
    if tune.sampler == "grid":
        return ", ".join(f"{value:g}" for value in tune.grid)
    return f"{tune.trials} values from {tune.low:g} to {tune.high:g} (Optuna)"


def _matrix(atlas: Atlas, measure: str) -> str:
    """A row a method, a column a place."""
    until = f"to {atlas.goal}" if atlas.goal else "of the whole run"
    titles = {"error": f"Error at the end: {_words(atlas)}", "time": f"Virtual time {until}", "dollars": f"Dollars {until}"}
    shows: dict[str, Callable[[float], str]] = {"error": atlas.show_error, "time": show_seconds, "dollars": show_dollars}
    cells = _cells(atlas, lambda row: _number(row, measure, shows[measure], atlas.goal))
    return tag("section", tag("h2", escape(titles[measure])) + cells)


def _cells(atlas: Atlas, cell: Callable[[pd.Series], Cell]) -> str:
    rows = [[Cell(method), *(cell(atlas.cell(method, place)) for place in atlas.places)] for method in atlas.methods]
    above = ["", *(condition.replace("_", " ") for condition, _ in atlas.places)]
    return table(["method", *(f"N = {count}" for _, count in atlas.places)], rows, above=above)


def _number(row: pd.Series, measure: str, show: Callable[[float], str], goal: str | None) -> Cell:
    if not row["scenario"]:
        return Cell("left out", math.inf, "soft")
    link, value = quote(str(row["scenario"])), float(row[measure])
    if not math.isfinite(value):
        lost = row["note"] or ("never" if goal is not None and measure != "error" else "diverged")
        return Cell(lost, math.inf, "bad" if row["note"] else "soft", link)
    below = [str(row["note"])] if row["note"] else []
    if measure == "error" and math.isfinite(row["error_low"]):
        below.insert(0, f"{show(row['error_low']).removesuffix(' %')} to {show(row['error_high'])}")
    if measure != "error" and goal is not None and row["reached"] < row["runs"]:
        below.insert(0, f"reached by {row['reached']} of {row['runs']}")
    near = "near" if measure == "error" and row["error_near"] else ""
    style = "best near" if row[f"{measure}_best"] else near or ("bad" if row["note"] else "")
    return Cell(show(value) + (" †" if row["at_edge"] else ""), value, style, link, ", ".join(below))


def _figure(atlas: Atlas) -> str:
    picture = base64.b64encode(figure_bytes(atlas_figure(atlas), "svg")).decode()
    image = tag("img", None, src=f"data:image/svg+xml;base64,{picture}", alt="Error, time and dollars against worker counts")
    caption = "Against worker counts, one column a condition. Named are the methods with the best mean ranks; bars are " \
              "intervals over seeds. No point: left out, diverged, failed, nothing chosen, or never there."  # fmt: skip
    return tag("section", tag("h2", "Figure") + tag("figure", image + tag("figcaption", escape(caption)), class_="whole"))


def _choices(atlas: Atlas) -> str:
    """What validation chose in every cell."""

    def choice(row: pd.Series) -> Cell:
        if not row["scenario"]:
            return Cell("left out", math.inf, "soft")
        if not math.isfinite(row["chosen"]):
            return Cell("none", math.inf, "bad", below="all diverged or failed")
        edge = bool(row["at_edge"])
        return Cell(f"{row['chosen']:.4g}{' †' if edge else ''}", float(row["chosen"]), below="at the edge" if edge else "")

    fields = {atlas.tune.of(name).field: None for name in atlas.methods}
    note = ""
    if len(fields) > 1:
        named = [(field, [name for name in atlas.methods if atlas.tune.of(name).field == field]) for field in fields]
        note = tag("ul", "".join(tag("li", escape(f"{field}: {', '.join(names)}")) for field, names in named))
    return tag("section", tag("h2", f"Chosen: {escape(' or '.join(fields))}") + note + _cells(atlas, choice))


def _conditions(atlas: Atlas) -> str:
    """What each condition changes, and the scenario of the first cell."""
    parts = [tag("h2", "Conditions")]
    for name, change in atlas.conditions.items():
        parts.append(tag("p", escape(name.replace("_", " "))) + tag("pre", escape(_yaml(change))))
    first = tag("summary", escape(f"Scenario of the first cell: {atlas.scenario.name}"))
    parts.append(tag("details", first + tag("pre", escape(_yaml(atlas.scenario.document())))))
    return tag("section", "".join(parts))


def _yaml(data: Mapping[str, Any]) -> str:
    return dump_document(data) if data else "as the file says"


def _left_out(atlas: Atlas) -> str:
    rows = []
    for each in atlas.left_out:
        where = "everywhere" if each.everywhere else ", ".join(f"{name} with {count}" for name, count in each.places)
        rows.append([Cell(each.method), Cell(where), Cell(each.reason)])
    if not rows:
        return ""
    inside = tag("div", table(["method", "where", "why it does not fit"], rows, sortable=False), class_="prose")
    return tag("section", tag("h2", "Left out") + inside)
