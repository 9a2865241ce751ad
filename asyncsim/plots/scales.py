"""Axes that are easy to read: plain numbers on logarithmic axes, and a place for points that have no number."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from asyncsim.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis


def name_of(metric: str) -> str:
    return metric.replace("_", " ")


def percent(metric: str) -> bool:
    """Is the metric a share, which is written in per cent?"""
    return metric.endswith(("_error", "_accuracy"))


def logarithmic(ax: Axes, which: Literal["x", "y"], values: Iterable[float], shares: bool = False) -> None:
    """Make an axis logarithmic, with ticks at 1, 2, 5 (over many decades: at powers of ten) that are written out: ``0.05``,
    ``200``, ``5 %``.

    The axis stays linear if no value is positive.
    """
    positive = [float(value) for value in values if value is not None and math.isfinite(value) and value > 0]
    if not positive:
        return
    low, high = min(positive), max(positive)
    axis = ax.xaxis if which == "x" else ax.yaxis
    room = max(1.06, (high / low) ** 0.05)
    (ax.set_xlim if which == "x" else ax.set_ylim)(low / room, high * room)
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    _ticks(axis, _round_numbers(low / room, high * room), shares)


FAR_APART = 10.0
"""Where one curve goes so many times as far as another, the shorter one would not be seen on a linear axis."""


def work_axis(ax: Axes, curves: Iterable[np.ndarray]) -> None:
    """The x axis of curves at these places, in time, work or money: from 0 on; or logarithmic where their ends are far apart,
    from the first place above 0. What lies at 0 (the evaluation before the first update) then stands at the left edge."""
    curves = [np.asarray(curve, dtype=float) for curve in curves]
    positive = [curve[curve > 0] for curve in curves if (curve > 0).any()]
    ends = [curve[-1] for curve in positive]
    if not ends or max(ends) < FAR_APART * min(ends):
        ax.set_xlim(0, 1.03 * max(ends, default=1.0))
        return
    logarithmic(ax, "x", [max(min(curve[0] for curve in positive), min(ends) / 100), max(ends)])
    left = ax.get_xlim()[0]
    for line in ax.get_lines():
        x = np.array(line.get_xdata(), dtype=float)
        if len(x) and (x < left).any():
            line.set_xdata(np.maximum(x, left))
    for band in ax.collections:
        for path in band.get_paths():
            vertices = np.asarray(path.vertices)  # itself, no copy
            vertices[:, 0] = np.maximum(vertices[:, 0], left)


def _round_numbers(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) == 1 or not ticks:
            return _between(low, high)
        if len(ticks) <= 7:
            return ticks
    return ticks[:: math.ceil(len(ticks) / 7)]


def _between(low: float, high: float) -> list[float]:
    """Round numbers in a narrow span."""
    from matplotlib.ticker import MaxNLocator

    return [float(tick) for tick in MaxNLocator(4).tick_values(low, high) if low <= tick <= high]


def _ticks(axis: Axis, ticks: Sequence[float], shares: bool = False) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator

    labels = [f"{100 * tick:.3g} %" if shares else plain(tick) for tick in ticks]
    axis.set_minor_locator(NullLocator())
    axis.set_major_locator(FixedLocator(list(ticks)))
    axis.set_ticklabels(labels)


def plain(value: float) -> str:
    """A number as a reader wants it: ``0.002``, ``15``, ``20,000``, ``5M``; a power of ten only where a plain number would be
    long."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if 1e6 <= abs(value) < 1e9:
        return f"{value / 1e6:g}M"
    exponent = math.floor(math.log10(abs(value)))
    mantissa = value / 10.0**exponent
    return f"$10^{{{exponent}}}$" if math.isclose(mantissa, 1) else f"${mantissa:.3g}\\cdot 10^{{{exponent}}}$"


def few_ticks(ax: Axes) -> None:
    """Put at most six numbers along a linear x axis, with separators of thousands."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    if ax.get_xscale() == "linear":
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def in_percent(axis: Axis) -> None:
    """Write the ticks of a linear axis of shares as ``20 %``."""
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))


def workers_axis(ax: Axes, counts: Iterable[float]) -> None:
    """Worker counts (or other whole or positive settings) along x, logarithmic, a tick at each that there is room for."""
    counts = sorted({float(count) for count in counts})
    if not counts or counts[0] <= 0:
        return
    room = max(1.12, (counts[-1] / counts[0]) ** 0.06)
    ax.set_xlim(counts[0] / room, counts[-1] * room)
    ax.set_xscale("log")
    _ticks(ax.xaxis, counts if len(counts) <= 9 else counts[:: math.ceil(len(counts) / 9)])


def numeric(values: Iterable[object], field: str) -> np.ndarray:
    """The values of a field that is to be an axis. Raises ``UserError`` for a value that is not a number."""
    found = list(values)
    wrong = [value for value in found if isinstance(value, bool) or not isinstance(value, int | float)]
    if wrong:
        raise UserError(f"field {field!r} is no number in every run (one has {wrong[0]!r}); choose another axis")
    return np.array(found, dtype=float)
