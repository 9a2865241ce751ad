"""How stale the pushes were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from asyncsim.plots.style import MARKS, axes, colours, grouped
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def staleness_histogram(results: Result | Sequence[Result], labels: Sequence[str] | None = None, ax: Axes | None = None) -> Axes:
    """Share of the pushes with each staleness, dropped ones left out. Labels with the same distribution share one curve."""
    ax = axes(ax)
    groups = grouped(results, labels)
    shades = colours(groups)
    shapes: dict[bytes, list[str]] = {}
    values: dict[bytes, np.ndarray] = {}
    for name, runs in groups.items():
        staleness = np.concatenate([
            run.updates.loc[run.updates["outcome"] != "dropped", "staleness"].to_numpy() for run in runs
        ])  # fmt: skip
        key = np.bincount(staleness).tobytes()
        shapes.setdefault(key, []).append(name)
        values[key] = staleness
    for number, (key, names) in enumerate(shapes.items()):
        counts = np.bincount(values[key])
        edges = np.arange(len(counts) + 1) - 0.5
        label = f"{', '.join(names)} (mean {values[key].mean():.1f})"
        ax.stairs(
            counts / counts.sum(), edges, color=shades[names[0]], label=label, fill=len(shapes) == 1, alpha=0.9,
            linewidth=1.6, linestyle=MARKS[number % len(MARKS)],
        )  # fmt: skip
    ax.set_xlabel("staleness (versions)")
    ax.set_ylabel("share of pushes")
    ax.legend()
    return ax
