"""An atlas in one figure: a row of panels for each measure, a column for each condition, and the best few methods named."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from asyncsim.plots.kinds import MOST_INCHES, headless
from asyncsim.plots.remarks import remark
from asyncsim.plots.scales import in_percent, logarithmic, workers_axis
from asyncsim.plots.style import DOUBLE, Look, in_style, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asyncsim.sweep.atlas import Atlas

NAMED, EACH = 6, 2
"""Methods with a colour and a name, and those that each measure names, the best of it."""
GREY = "#C4C8CE"
CROWD = 20
"""Of more methods than that, those in grey are drawn thin."""
LEAST = 2.1
"""Inches of a panel's width."""


def atlas_figure(atlas: Atlas) -> Figure:
    """The measures against worker counts, one panel for each condition: all methods in grey, the best few in colours.

    Named are the methods of the best mean rank over all places, two of each measure. A cell in which a seed diverged or failed,
    or for which nothing could be chosen, has no point: its line is interrupted. The caller closes the figure.
    """
    headless()
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    conditions = list(atlas.conditions)
    named = named_methods(atlas)
    shown = looks(named)
    with in_style():
        width = min(MOST_INCHES, max(DOUBLE, 0.6 + LEAST * len(conditions)))
        drawn, panels = plt.subplots(
            len(atlas.measures), len(conditions), figsize=(width, 0.7 + 1.75 * len(atlas.measures)), layout="constrained",
            sharex=True, sharey="row", squeeze=False,
        )  # fmt: skip
        for row, measure in zip(panels, atlas.measures, strict=True):
            values: list[float] = []
            for ax, condition in zip(row, conditions, strict=True):
                values += _panel(ax, atlas, measure, condition, shown)
            _scale(row, measure, atlas, values)
        for ax, condition in zip(panels[0], conditions, strict=True):
            ax.set_title(condition.replace("_", " "))
        for ax in panels[-1]:
            ax.set_xlabel("workers")
        lost = [int((~sound(atlas, measure)).sum()) for measure in atlas.measures]
        if any(lost):
            told = ", ".join(f"{count} of {measure}" for count, measure in zip(lost, atlas.measures, strict=True) if count)
            why = "left out, diverged, failed, nothing chosen, or never there"
            remark(panels[-1][0], f"{len(atlas.table)} cells; without a point: {told} ({why})")
        handles = [Line2D([], [], **_named(look)) for look in shown.values()]
        texts = list(shown)
        others = len(atlas.methods) - len(named)
        if others:
            handles.append(Line2D([], [], color=GREY, marker=".", linewidth=1.0))
            texts.append(f"{others} other method{'s' if others > 1 else ''}")
        drawn.legend(handles, texts, loc="outside upper center", ncols=min(len(texts), max(2, int(width / 1.7))))
    return drawn


def named_methods(atlas: Atlas) -> list[str]:
    """The methods that the figure names: all where they are few, otherwise the best of each measure, in the order of the file."""
    if len(atlas.methods) <= NAMED:
        return atlas.methods
    best = dict.fromkeys(name for measure in atlas.measures for name in atlas.leading(measure, EACH))
    return [name for name in atlas.methods if name in best]


def sound(atlas: Atlas, measure: str) -> pd.Series:
    """Which cells have a point in the panels of a measure."""
    return (atlas.table["note"] == "") & atlas.table[measure].notna()


def _panel(ax: Axes, atlas: Atlas, measure: str, condition: str, shown: dict[str, Look]) -> list[float]:
    """Draw one panel, and return the numbers that it shows."""
    counts = sorted({count for name, count in atlas.places if name == condition})
    rows = atlas.table[(atlas.table["condition"] == condition) & sound(atlas, measure)]
    values: list[float] = []
    thin = len(atlas.methods) > CROWD
    for method in sorted(atlas.methods, key=lambda name: name in shown):
        own = rows[rows["method"] == method].set_index("workers")
        points = np.array([own[measure].get(count, math.nan) for count in counts], dtype=float)
        values += [float(value) for value in points if math.isfinite(value)]
        style: dict[str, Any] = {"color": GREY, "marker": ".", "linewidth": 0.8, "zorder": 1}
        style |= {"linewidth": 0.4, "markersize": 2} if thin else {}
        if method in shown:
            style = _named(shown[method]) | {"zorder": 3}
            if measure == "error":
                low, high = ([float(own[f"error_{end}"].get(count, math.nan)) for count in counts] for end in ("low", "high"))
                ax.vlines(counts, low, high, color=shown[method].colour, linewidth=0.8, zorder=2)
                values += [end for end in (*low, *high) if math.isfinite(end)]
        ax.plot(counts, points, **style)
    workers_axis(ax, counts)
    return values


def _named(look: Look) -> dict[str, Any]:
    return {"color": look.colour, "linestyle": look.dash, "marker": look.point, "linewidth": 1.3}


def _scale(row: Any, measure: str, atlas: Atlas, values: list[float]) -> None:
    """The y axis of a row of panels, which they share: logarithmic where its numbers are far apart."""
    shares = measure == "error" and atlas.metric.endswith("accuracy")
    positive = [value for value in values if value > 0]
    if positive and len(positive) == len(values) and max(positive) > 3 * min(positive):
        logarithmic(row[0], "y", positive, shares)
    elif shares:
        in_percent(row[0].yaxis)
    until = "" if atlas.goal is None else " to target"
    titles = {"error": atlas.error_name + " at the end", "time": f"virtual time (s){until}", "dollars": f"dollars{until}"}
    row[0].set_ylabel(titles[measure])
