"""Points, bars and crosses against worker counts: what the figures of scaling share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asyncsim.plots.scales import workers_axis
from asyncsim.plots.style import Look, legend, looks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

ROW = 0.068
"""Height of a row of crosses, as a share of the axes."""


class Point(NamedTuple):
    """One label at one place: a number of each run that has one, of ``runs``; ``diverged`` of those have none for that reason."""

    x: float
    values: tuple[float, ...]
    runs: int
    diverged: int
    mean: float


def draw_points(ax: Axes, series: dict[str, list[Point]]) -> list[float]:
    """Lines, bars and points; returns all values drawn. What has none is drawn by ``finish``, when the axis has its limits."""
    drawn: list[float] = []
    for (name, points), look in zip(series.items(), looks(series).values(), strict=True):
        known = [point for point in points if point.values]
        means = np.array([point.mean for point in known])
        ends = np.array([(min(point.values), max(point.values)) for point in known]).reshape(-1, 2)
        x = [point.x for point in known]
        ax.errorbar(
            x, means, yerr=_bars(means, ends), color=look.colour, linestyle=look.dash, marker=look.point,
            capsize=2, elinewidth=0.8, label=name,
        )  # fmt: skip
        partly = [(point.x, point.mean) for point in known if len(point.values) < point.runs]
        if partly:
            ax.plot(*zip(*partly, strict=True), look.point, color=look.colour, markerfacecolor="white", zorder=4, label="_partly")
        drawn.extend(ends.ravel())
    if not drawn:
        ax.set_yticks([])  # nothing has a place along it
    return drawn


def _bars(means: np.ndarray, ends: np.ndarray) -> np.ndarray | None:
    """Lengths below and above the points, ``(2, points)``."""
    return np.abs(ends.T - means) if len(means) else None


def finish(ax: Axes, series: dict[str, list[Point]], x: str, missing: str) -> None:
    """Worker axis, legend, and at the top a row for runs without a number, for every label that has some."""
    counts = [point.x for points in series.values() for point in points]
    if x in ("workers", "cluster.workers") or (min(counts) > 0 and max(counts) > 20 * min(counts)):
        workers_axis(ax, counts)
    ax.set_xlabel("workers N" if x in ("workers", "cluster.workers") else x.replace("_", " "))
    lacking = {name: [p for p in points if len(p.values) < p.runs] for name, points in series.items()}
    lacking = {name: points for name, points in lacking.items() if points}
    shades = looks(series)
    floor = 1.0 - ROW * (len(lacking) + 1)
    if lacking:
        _make_room(ax, floor)
        ax.add_patch(_cover(ax, floor - 0.01))
        ax.plot([0, 1], [floor - 0.01] * 2, transform=ax.transAxes, color="#999999", linewidth=0.6, label="_floor")
        ax.annotate(missing, (0.015, 1.0 - ROW / 2), xycoords="axes fraction", va="center", fontsize=7, color="#444444")
    for row, (name, points) in enumerate(reversed(lacking.items())):
        _row(ax, points, shades[name], floor + 0.03 + ROW * row)
    legend(ax)


def _make_room(ax: Axes, floor: float) -> None:
    """Raise the upper end of y, so that what is drawn ends a bit below the share ``floor`` of the axes. No tick above that."""
    ticks = [tick for tick in ax.get_yticks() if ax.get_ylim()[0] <= tick <= ax.get_ylim()[1]]
    low, high = ax.get_ylim()
    share = floor - 0.03
    if ax.get_yscale() == "log":
        ax.set_ylim(low, low * (high / low) ** (1 / share))
    else:
        formatter = ax.yaxis.get_major_formatter()
        ax.set_ylim(low, low + (high - low) / share)
        ax.set_yticks(ticks)
        ax.yaxis.set_major_formatter(formatter)


def _cover(ax: Axes, floor: float) -> Patch:
    """A sheet over grid and lines above ``floor``: positions there mean nothing."""
    from matplotlib.patches import Rectangle

    return Rectangle((0, floor), 1, 1 - floor, transform=ax.transAxes, facecolor="white", edgecolor="none", zorder=1.9)


def _row(ax: Axes, points: Iterable[Point], look: Look, height: float) -> None:
    for point in points:
        lost = point.runs - len(point.values)
        where = ax.get_xaxis_transform()
        ax.plot(point.x, height, "x", transform=where, color=look.colour, clip_on=False, markersize=5, markeredgewidth=1.5)
        if point.runs > 1:
            ax.annotate(
                f"{lost}/{point.runs}", (point.x, height), xycoords=where, xytext=(4, 0), textcoords="offset points",
                fontsize=6, va="center", color=look.colour, annotation_clip=False,
            )  # fmt: skip
