"""Runs that have no number, as crosses in rows of their own above what is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from asyncsim.plots.style import Look

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


def rows_of_crosses(ax: Axes, lacking: Mapping[str, list[Point]], shades: Mapping[str, Look], missing: str) -> None:
    """A row for every label that has points whose runs lack a number, with ``missing`` above them; nothing if there is none."""
    floor = 1.0 - ROW * (len(lacking) + 1)
    if lacking:
        _make_room(ax, floor)
        ax.add_patch(_cover(ax, floor - 0.01))
        ax.plot([0, 1], [floor - 0.01] * 2, transform=ax.transAxes, color="#999999", linewidth=0.6, label="_floor")
        ax.annotate(missing, (0.015, 1.0 - ROW / 2), xycoords="axes fraction", va="center", fontsize=7, color="#444444")
    for row, (name, points) in enumerate(reversed(lacking.items())):
        _row(ax, points, shades[name], floor + 0.03 + ROW * row)


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
