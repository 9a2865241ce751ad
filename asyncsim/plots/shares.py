"""Draw how the workers' time was spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asyncsim.errors import UserError
from asyncsim.plots.gantt import FILL
from asyncsim.plots.remarks import few, shortened
from asyncsim.plots.scales import in_percent
from asyncsim.plots.style import SINGLE, axes, grouped
from asyncsim.plots.tables import called, only_ended
from asyncsim.records import Result
from asyncsim.records.rows import EVENT_KINDS, WORK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = ("utilisation", *(kind for kind in EVENT_KINDS if kind not in (*WORK, "stop")), "lost", "unfinished")
MOST_BARS = 32
_LABEL = {"utilisation": "compute", "lost": "lost work"}


def time_shares(results: Result | Sequence[Result], labels: Sequence[str] | str | None = None, ax: Axes | None = None) -> Axes:
    """A bar a label: shares of all workers' time, from the summaries, means over seeds; the first number is the utilisation.

    ``lost`` is work that a crash or a recall cut short, ``unfinished`` what was going on at the end.
    """
    groups = grouped(results, labels)
    longest = min(26, max(map(len, groups)))
    ax = axes(ax, SINGLE + 0.06 * max(0, longest - 12), 1.15 + 0.24 * min(len(groups), MOST_BARS))
    groups = few(groups, ax, MOST_BARS)
    means = {name: _mean(runs) for name, runs in groups.items()}
    left = np.zeros(len(groups))
    place = np.arange(len(groups))
    for share in SHARES:
        widths = np.array([mean[share] for mean in means.values()])
        if not widths.any():
            continue
        colour, hatch = _fill(share)
        edge = "#555555" if hatch else "#BBBBBB" if share == "unfinished" else "white"
        ax.barh(
            place, widths, left=left, height=0.74, color=colour, hatch=hatch, edgecolor=edge,
            linewidth=0.5, label=_LABEL.get(share, share),
        )  # fmt: skip
        left = left + widths
    for row, mean in enumerate(means.values()):
        if mean["utilisation"] > 0.1:
            ax.text(mean["utilisation"] / 2, row, f"{100 * mean['utilisation']:.0f} %", ha="center", va="center", fontsize=7)
    ax.set_yticks(place, [shortened(name, 26) for name in groups])
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    in_percent(ax.xaxis)
    ax.set_xlabel("share of the workers' time")
    ax.grid(False)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.1, 1.0), ncols=3, handlelength=1.2, columnspacing=1.2)
    return ax


def _mean(runs: list[Result]) -> dict[str, float]:
    runs = only_ended(runs)
    for run in runs:
        if "unfinished" not in run.summary:
            raise UserError(f"run {called(run)}: its summary has no shares of time (`records.events: true` in the scenario)")
    return {share: float(np.mean([run.summary.get(share, 0.0) for run in runs])) for share in SHARES}


def _fill(share: str) -> tuple[str, str | None]:
    if share == "lost":
        return FILL["compute"], "/////"
    return ("white" if share == "unfinished" else FILL["compute" if share == "utilisation" else share]), None
