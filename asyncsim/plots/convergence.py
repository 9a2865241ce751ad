"""A metric against virtual time, updates or samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from asyncsim.plots.style import axes, colours, grouped
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = {"time": ("time", "virtual time (s)"), "updates": ("version", "updates"), "samples": ("samples", "samples")}


def convergence(
    results: Result | Sequence[Result],
    metric: str = "test_error",
    against: Literal["time", "updates", "samples"] = "time",
    labels: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Mean over the runs that share a label, and a band from the smallest to the largest.

    ``<split>_error`` is one minus the accuracy, on a logarithmic axis. A run that diverged is drawn up to there, with a cross at
    its last finite value. A label's curve ends where the first of its runs does.
    """
    ax = axes(ax)
    column, label = AXES[against]
    groups = grouped(results, labels)
    shades = colours(groups)
    for name, runs in groups.items():
        curves = [_curve(run, metric, column) for run in runs]
        curves = [(x, y) for x, y in curves if len(x)]
        if not curves:
            continue
        ended = [(x[-1], y[-1]) for (x, y), run in zip(curves, runs, strict=False) if run.summary.get("status") == "diverged"]
        grid = min((x for x, _ in curves), key=lambda x: x[-1])
        stacked = np.stack([np.interp(grid, x, y) for x, y in curves])
        ax.plot(grid, stacked.mean(axis=0), color=shades[name], label=name)
        if len(curves) > 1:
            ax.fill_between(grid, stacked.min(axis=0), stacked.max(axis=0), color=shades[name], alpha=0.18, linewidth=0)
        for x, y in ended:
            ax.plot(x, y, "x", color=shades[name], markersize=6, markeredgewidth=1.8)
    ax.set_xlabel(label)
    ax.set_ylabel(metric.replace("_", " "))
    if metric.endswith("_error"):
        ax.set_yscale("log")
        ticks = [0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
        ax.set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        ax.minorticks_off()
    ax.legend()
    return ax


def _curve(run: Result, metric: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    metrics = run.metrics
    if metric not in metrics and metric.endswith("_error"):
        values = 1.0 - metrics[metric.removesuffix("_error") + "_accuracy"].to_numpy()
    else:
        values = metrics[metric].to_numpy()
    finite = np.isfinite(values)
    return metrics[column].to_numpy()[finite].astype(float), values[finite]
