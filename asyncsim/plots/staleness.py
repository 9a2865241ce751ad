"""Draw the distribution of the pushes' staleness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asyncsim.plots.remarks import few
from asyncsim.plots.style import axes, grouped, joined, legend, looks
from asyncsim.plots.tables import table
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def staleness_histogram(
    results: Result | Sequence[Result], labels: Sequence[str] | str | None = None, ax: Axes | None = None
) -> Axes:
    """Share of the pushes with each staleness, dropped ones left out. Labels with the same distribution share one curve; where
    others have some, labels without any staleness are only named.
    """
    ax = axes(ax)
    groups = grouped(results, labels)
    shown = looks(groups)
    shared: dict[bytes, tuple[list[str], np.ndarray]] = {}
    for name, runs in few(groups, ax).items():
        shares = _shares(runs)
        shared.setdefault(shares.tobytes(), ([], shares))[0].append(name)
    for names, shares in shared.values():
        label = joined(names)
        if len(shares) == 1 and len(shared) > 1:
            ax.plot([], [], " ", label=f"{label} (always 0)")
            continue
        mean = float(shares @ np.arange(len(shares)))
        edges = np.arange(len(shares) + 1) - 0.5
        look = shown[names[0]]
        ax.stairs(shares, edges, color=look.colour, label=f"{label} (mean {mean:.1f})", linewidth=1.6, linestyle=look.dash)
        ax.stairs(shares, edges, color=look.colour, alpha=0.15, fill=True)
    ax.set_xlabel("staleness (versions)")
    ax.set_ylabel("share of pushes")
    legend(ax)
    return ax


def _shares(runs: list[Result]) -> np.ndarray:
    """Share of each staleness from 0 on, over all the runs."""
    staleness = [table(run, "updates").loc[run.updates["outcome"] != "dropped", "staleness"].to_numpy() for run in runs]
    counts = np.bincount(np.concatenate(staleness), minlength=1)
    return counts / max(1, counts.sum())
