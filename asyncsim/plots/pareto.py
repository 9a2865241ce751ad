"""Draw candidates against each other in time, cost and error, and mark those that no other candidate beats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from asyncsim.errors import UserError
from asyncsim.plots.kinds import headless, write_figure
from asyncsim.plots.remarks import remark, remarks
from asyncsim.plots.scales import few_ticks, logarithmic
from asyncsim.plots.style import DOUBLE, axes, entry, in_style, legend, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 24
"""Candidates that a legend can name."""
NAMES = {"time": "virtual time (s)", "cost": "cost (dollars)"}


def write_front(
    table: pd.DataFrame, objectives: Sequence[str], goal: str, path: Path, tell: Callable[[str], None]
) -> Path | None:
    """Write `pareto_front` to a file, with a legend beside it. If no candidate can be drawn, nothing is written and None is
    returned.

    ``tell`` is called with what the figure leaves out.
    """
    headless()
    import matplotlib.pyplot as plt

    with in_style():
        drawn, ax = plt.subplots(figsize=(DOUBLE, 3.2), layout="constrained")
        try:
            beside = pareto_front(table, objectives, goal, ax).get_legend()
        except UserError:
            plt.close(drawn)
            return None
        if beside is not None:
            beside.remove()
        handles, texts = ax.get_legend_handles_labels()
        drawn.set_size_inches(DOUBLE, max(3.2, 0.5 + 0.15 * len(texts)))
        drawn.legend(handles, [entry(text, 34) for text in texts], loc="outside right upper",
                     title="filled: Pareto front", title_fontsize=7)
        for text in remarks(drawn):
            tell(f"{path.name}: {text}")
        return write_figure(drawn, path)


def pareto_front(table: pd.DataFrame, objectives: Sequence[str], goal: str = "target", ax: Axes | None = None) -> Axes:
    """A point a candidate: time against cost (the error stands in the legend), or against the error where there are no prices.

    ``table`` is that of an `Advice`. Bars are 95 % intervals over seeds. The Pareto front is filled, the others are open. What
    never reached the target has no place: it is a cross in the legend. Raises ``UserError`` if that is all of them.
    """
    ax = axes(ax)
    y = "cost" if "cost" in objectives else "error"
    spans: dict[str, list[float]] = {"time": [], y: []}
    shown = looks(table["candidate"])
    if len(table) > MOST:
        first = table.sort_values("pareto", ascending=False, kind="stable").head(MOST)
        remark(ax, f"{MOST} of {len(table)} candidates, those of the Pareto front first")
        table = table.loc[sorted(first.index)]
    for _, row in table.iterrows():
        look = shown[row["candidate"]]
        if not (math.isfinite(row["time"]) and math.isfinite(row[y])):
            ax.plot([], [], "x", color=look.colour, label=f"{row['candidate']}: never")
            continue
        face = look.colour if row["pareto"] else "white"
        ax.errorbar(
            row["time"], row[y], xerr=_bar(row, "time"), yerr=_bar(row, y), fmt=look.point, color=look.colour,
            markerfacecolor=face, markersize=6, capsize=2, elinewidth=0.8,
            label=f"{row['candidate']}, error {row['error']:.3g}" if y == "cost" else str(row["candidate"]),
        )  # fmt: skip
        for column, span in spans.items():
            span += [row[name] for name in (column, f"{column}_low", f"{column}_high") if math.isfinite(row.get(name, math.nan))]
    if not spans["time"]:
        raise UserError(f"no candidate reached {goal}: there is nothing to draw")
    ax.set_xlabel(f"{NAMES['time']} to {goal}")
    metric = next((str(column).partition("_")[2] for column in table if str(column).startswith("test_")), "accuracy")
    ax.set_ylabel(f"{NAMES[y]} to that" if y == "cost" else f"validation {metric.replace('accuracy', 'error')} at the end")
    along: tuple[Literal["x", "y"], ...] = ("x", "y")
    for axis, span in zip(along, spans.values(), strict=True):
        if min(span) > 0 and max(span) > 3 * min(span):
            logarithmic(ax, axis, span)
    few_ticks(ax)
    legend(ax)
    return ax


def _bar(row: pd.Series, column: str) -> np.ndarray | None:
    """Lengths below and above, (2, 1); None without an interval."""
    low, high = row.get(f"{column}_low", math.nan), row.get(f"{column}_high", math.nan)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    return np.array([[max(0.0, row[column] - low)], [max(0.0, high - row[column])]])
