"""Draw staleness, gap and penalty of the pushes as a run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from asyncsim.errors import UserError
from asyncsim.plots.remarks import few, remark
from asyncsim.plots.scales import few_ticks, logarithmic, plain, work_axis
from asyncsim.plots.style import axes, grouped, joined, legend, looks
from asyncsim.plots.tables import called, table
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = {"time": ("time", "virtual time (s)"), "updates": ("version", "updates")}
QUANTITIES = {"staleness": "staleness (versions)", "gap": "gap (L2 norm)", "penalty": "penalty (divides the update)"}

SPIKE = 8.0
"""A mean that is so many times as high as nine tenths of them is left above the axis."""

Against = Literal["time", "updates"]
Labels = Sequence[str] | str | None


def staleness_over_time(
    results: Result | Sequence[Result], against: Against = "time", labels: Labels = None, ax: Axes | None = None
) -> Axes:
    """Mean staleness in equal spans of the run, and a band from the 5th to the 95th percentile of the pushes; dropped ones left
    out, all seeds of a label together. Labels whose pushes are all alike share one curve."""
    return over_time(results, "staleness", against, labels, ax)


def gap_over_time(
    results: Result | Sequence[Result], against: Against = "time", labels: Labels = None, ax: Axes | None = None
) -> Axes:
    """As ``staleness_over_time``, for the gap. Needs real gradients. Logarithmic where it spans more than a factor of 20 (gaps of
    0 are then not on it)."""
    return over_time(results, "gap", against, labels, ax)


def penalty_over_time(
    results: Result | Sequence[Result], against: Against = "time", labels: Labels = None, ax: Axes | None = None
) -> Axes:
    """As ``staleness_over_time``, for the penalty; 1 for methods that have none. Needs real gradients."""
    return over_time(results, "penalty", against, labels, ax)


def over_time(
    results: Result | Sequence[Result],
    quantity: str,
    against: Against = "time",
    labels: Labels = None,
    ax: Axes | None = None,
    windows: int = 40,
) -> Axes:
    """One of ``QUANTITIES`` in ``windows`` equal spans; a span without a push is left out. The y axis ends where nearly all means
    and bands do: a lone spike above is counted in a remark below the axes. The x axis is that of ``convergence``."""
    ax = axes(ax)
    if against not in COLUMNS:
        raise UserError(f"against: {against!r} is none of {', '.join(COLUMNS)} (pushes carry no count of samples)")
    column, label = COLUMNS[against]
    groups = grouped(results, labels)
    shown = looks(groups)
    means, highs, places = [], [], []
    groups = few(groups, ax)
    for names, (x, y) in _alike({name: _pushes(runs, quantity, column) for name, runs in groups.items()}):
        look, name = shown[names[0]], joined(names)
        edges = np.linspace(0, x.max(), windows + 1) if x.max() > 0 else np.array([0.0, 1.0])
        place = np.clip(np.searchsorted(edges, x, side="left") - 1, 0, len(edges) - 2)
        filled = np.unique(place)
        spans = [y[place == window] for window in filled]
        middle = (edges[filled] + edges[filled + 1]) / 2
        mean = np.array([span.mean() for span in spans])
        low, high = np.array([np.percentile(span, [5, 95]) for span in spans]).T
        ax.plot(middle, mean, color=look.colour, linestyle=look.dash, label=name)
        ax.fill_between(middle, low, high, color=look.colour, alpha=0.15, linewidth=0)
        means.append(mean)
        highs.append(high)
        places.append(middle)
    ax.set_xlabel(label)
    ax.set_ylabel(QUANTITIES[quantity])
    _y_axis(ax, np.concatenate(means), np.concatenate(highs), quantity)
    work_axis(ax, places)
    few_ticks(ax)
    legend(ax)
    return ax


def _y_axis(ax: Axes, means: np.ndarray, highs: np.ndarray, quantity: str) -> None:
    """Limits that a lone spike does not stretch, and a logarithmic scale where the rest still spans much."""
    top = SPIKE * float(np.percentile(means, 90))
    kept = means[means <= top] if top > 0 else means
    positive = kept[kept > 0]
    if quantity != "staleness" and len(positive) and positive.max() > 20 * positive.min():
        logarithmic(ax, "y", positive)
        if len(positive) < len(kept):
            remark(ax, f"{len(kept) - len(positive)} spans with a mean of 0 are not on the logarithmic axis")
    else:
        most = float(kept.max()) if len(kept) else 0.0
        ax.set_ylim(0, 1.05 * max(most, min(float(highs.max()), 2 * most)) or None)
    if len(kept) < len(means):
        count = len(means) - len(kept)
        spans = "1 span has its mean" if count == 1 else f"{count} spans have their means"
        remark(ax, f"{spans} above the axis, up to {plain(float(means.max()))}")


def _alike(pushes: dict[str, tuple[np.ndarray, np.ndarray]]) -> list[tuple[list[str], tuple[np.ndarray, np.ndarray]]]:
    """Labels with the very same pushes together."""
    shared: dict[bytes, tuple[list[str], tuple[np.ndarray, np.ndarray]]] = {}
    for name, (x, y) in pushes.items():
        shared.setdefault(x.tobytes() + y.tobytes(), ([], (x, y)))[0].append(name)
    return list(shared.values())


def _pushes(runs: list[Result], quantity: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Place and value of the pushes that counted, of all runs together."""
    xs, ys = [], []
    for run in runs:
        frame = table(run, "updates")
        frame = frame[(frame["outcome"] != "dropped") & np.isfinite(frame[quantity])]
        if frame.empty:
            raise UserError(f"run {called(run)}: its pushes have no {quantity}; only runs with real gradients have one")
        xs.append(frame[column].to_numpy(dtype=float))
        ys.append(frame[quantity].to_numpy(dtype=float))
    return np.concatenate(xs), np.concatenate(ys)


def gap_distribution(results: Result | Sequence[Result], labels: Labels = None, ax: Axes | None = None) -> Axes:
    """Share of the pushes whose gap is at most x, dropped ones left out: no bins to choose, and curves that can be told apart.

    Gaps of zero (nothing happened between read and arrival) are where a curve starts on the left.
    """
    ax = axes(ax)
    groups = grouped(results, labels)
    positive = []
    shown = looks(groups)
    curves = {name: np.sort(_pushes(runs, "gap", "time")[1]) for name, runs in few(groups, ax).items()}
    for name, gaps in curves.items():
        look = shown[name]
        shares = np.arange(1, len(gaps) + 1) / len(gaps)
        label = f"{name} (median {np.median(gaps):.2g})"
        ax.step(gaps, shares, where="post", color=look.colour, linestyle=look.dash, label=label)
        positive.append(gaps[gaps > 0])
    every = np.concatenate(positive)
    if len(every):
        logarithmic(ax, "x", [np.percentile(every, 0.5), every.max()])
        left = ax.get_xlim()[0]
        for gaps, line in zip(curves.values(), ax.get_lines()[-len(curves) :], strict=True):
            if (gaps == 0).any() and (gaps > 0).any():  # zero is not on the axis: the curve enters from the left at its share
                ax.hlines((gaps == 0).mean(), left, gaps[gaps > 0][0], color=line.get_color(), linestyle=line.get_linestyle())
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("gap (L2 norm)")
    ax.set_ylabel("share of pushes")
    legend(ax)
    return ax
