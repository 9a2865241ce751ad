"""Draw a metric against virtual time, updates, samples, dollars or joules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from asyncsim.errors import UserError
from asyncsim.plots.remarks import few
from asyncsim.plots.scales import few_ticks, in_percent, logarithmic, name_of, percent, work_axis
from asyncsim.plots.style import axes, grouped, legend, looks
from asyncsim.plots.tables import curve, diverged, ended, headline
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {
    "time": ("time", "virtual time (s)"), "updates": ("version", "updates"), "samples": ("samples", "samples"),
    "dollars": ("cost", "cost (dollars)"), "joules": ("energy", "energy (J)"),
}  # fmt: skip


def convergence(
    results: Result | Sequence[Result],
    metric: str | None = None,
    against: Literal["time", "updates", "samples", "dollars", "joules"] = "time",
    labels: Sequence[str] | str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean over the runs that share a label, and a band from the smallest to the largest.

    ``metric`` is a column of the metrics table, or ``<split>_error``, one minus the accuracy (default: the test error where there
    is an accuracy, else the last metric). Errors, and what spans more than a factor of 20, have a logarithmic axis. A run that
    diverged is no part of the mean: it is a thin line to its last finite value, with a cross there, and is counted in the legend.
    A mean ends where the first of its runs does. Where one curve goes ten times as far as another, the x axis is logarithmic
    (`scales.work_axis`), and the evaluation at 0 is not on it.
    """
    ax = axes(ax)
    groups = grouped(results, labels)
    metric = metric or headline(run for runs in groups.values() for run in runs)
    column, label = axis_of(against)
    shown = looks(groups)
    drawn: list[np.ndarray] = []
    places: list[np.ndarray] = []
    for name, runs in few(groups, ax).items():
        look = shown[name]
        curves = [(run, *curve(run, metric, column)) for run in runs if ended(run) or len(run.metrics)]
        lost = [(x, y) for run, x, y in curves if diverged(run) and len(x)]
        whole = [(x, y) for run, x, y in curves if not diverged(run) and len(x)]
        count = sum(diverged(run) for run in runs)
        text = name if not count else f"{name} ({count} of {len(runs)} diverged)" if len(runs) > 1 else f"{name} (diverged)"
        for x, y in lost:
            ax.plot(x, y, color=look.colour, linestyle=look.dash, linewidth=0.8, alpha=0.8)
            ax.plot(x[-1], y[-1], "x", color=look.colour, markersize=6, markeredgewidth=1.6, label="_lost", clip_on=False)
            places.append(x)
            drawn.append(y)
        if whole:
            grid = min((x for x, _ in whole), key=lambda x: x[-1])
            stacked = np.stack([np.interp(grid, x, y) for x, y in whole])
            ax.plot(grid, stacked.mean(axis=0), color=look.colour, linestyle=look.dash, label=text)
            if len(whole) > 1:
                low, high = stacked.min(axis=0), stacked.max(axis=0)
                ax.fill_between(grid, low, high, color=look.colour, alpha=0.18, linewidth=0)
            drawn.append(stacked)
            places.append(grid)
        elif lost or count:
            ax.plot([], [], "x", linestyle=look.dash, color=look.colour, linewidth=0.8, label=text)
    ax.set_xlabel(label)
    ax.set_ylabel(name_of(metric))
    if not drawn:
        raise UserError(f"{metric}: no finite value in any run")
    values = np.concatenate([values.ravel() for values in drawn])
    if metric.endswith("_error") or (values.min() > 0 and values.max() > 20 * values.min()):
        logarithmic(ax, "y", values, shares=percent(metric))
    elif percent(metric):
        in_percent(ax.yaxis)
    work_axis(ax, places)
    few_ticks(ax)
    legend(ax)
    return ax


def axis_of(against: str) -> tuple[str, str]:
    """The column of the metrics table for an axis, and the label of the axis."""
    if against not in AXES:
        raise UserError(f"against: {against!r} is none of {', '.join(AXES)}")
    return AXES[against]
