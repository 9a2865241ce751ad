"""Draw what was fitted to a trace: distribution functions, and the quantiles of the fit against those of the trace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from asyncsim.plots.style import DASHES, DOUBLE, OURS, PALETTE, in_style
from asyncsim.units import TIME, time_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asyncsim.calibration import Calibration, Fit

POINTS = 1000
"""The number of quantiles that are drawn; a long trace is not drawn row by row."""
SHOWN = 4
"""The number of families that are drawn: the chosen one, and the best of the others."""


def fits(calibration: Calibration) -> Figure:
    """A row for each part of the trace. Left: the share of durations up to x, of the trace and of the chosen and best families.
    Right: quantiles of the chosen family against those of the trace, which lie on the diagonal where it fits."""
    import matplotlib.pyplot as plt

    with in_style():
        rows = len(calibration.fits)
        drawn, places = plt.subplots(rows, 2, figsize=(DOUBLE, 2.7 * rows), layout="constrained", squeeze=False, label=OURS)
        for (name, fit), (left, right) in zip(calibration.fits.items(), places, strict=True):
            distribution_functions(fit, name, left)
            quantiles(fit, name, right)
    return drawn


def distribution_functions(fit: Fit, name: str, ax: Axes) -> Axes:
    """The trace's distribution function and those of the families, each with its Kolmogorov-Smirnov distance."""
    share, values = _quantiles(fit)
    unit = time_unit(float(np.median(fit.values)))
    label = f"trace, n = {len(fit.values):,}"
    ax.step(values / TIME[unit], share, where="post", color="#000000", linewidth=2.2, alpha=0.35, label=label)
    others = [one for one in fit.candidates if one.family is not None and one is not fit.chosen]
    between = np.union1d(values, np.linspace(values[0], values[-1], POINTS))  # a trace may have wide gaps
    for place, one in enumerate([fit.chosen, *others[: SHOWN - 1]]):
        assert one.family is not None
        ax.plot(
            between / TIME[unit], one.family.cdf(between), color=PALETTE[place], linestyle=DASHES[place],
            linewidth=1.5 if place == 0 else 0.9, label=f"{one.kind}, {one.ks:.3f}",
        )  # fmt: skip
    wide = values[0] > 0 and values[-1] > 100 * values[0]
    if wide:
        ax.set_xscale("log")
    ax.set_ylim(0, 1.02)
    ax.set_xlabel(f"{name} ({unit})")
    ax.set_ylabel("share of durations")
    ax.legend(loc="upper left" if wide else "lower right", title="family, KS distance", title_fontsize=7)
    return ax


def quantiles(fit: Fit, name: str, ax: Axes) -> Axes:
    """Quantiles of the chosen family over those of the trace."""
    share, values = _quantiles(fit)
    unit = time_unit(float(np.median(fit.values)))
    theirs, ours = values / TIME[unit], fit.family.quantile(share) / TIME[unit]
    ends = [min(theirs[0], ours[0]), max(theirs[-1], ours[-1])]
    ax.plot(ends, ends, color="#000000", linewidth=0.7)
    ax.plot(theirs, ours, linestyle="none", marker="o", markersize=2, color=PALETTE[0])
    if ends[0] > 0 and ends[1] > 100 * ends[0]:
        ax.set_xscale("log")
        ax.set_yscale("log")
    ax.set_xlabel(f"{name}, quantiles of the trace ({unit})")
    ax.set_ylabel(f"of the {fit.chosen.kind} ({unit})")
    return ax


def _quantiles(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Shares (i - 1/2) / n and the rows that they belong to, about ``POINTS`` of them, the first and the last among them."""
    n = len(fit.values)
    rows = np.unique(np.linspace(0, n - 1, min(n, POINTS)).round().astype(np.int64))
    return (rows + 0.5) / n, fit.values[rows]
