"""Draw what each worker did when, with one lane for each worker, from the events alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncsim.plots.remarks import remark
from asyncsim.plots.style import axes
from asyncsim.plots.tables import table
from asyncsim.records import Result
from asyncsim.records.rows import NOTHING_LOST, WORK
from asyncsim.records.stage_tables import stages_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILL = {
    "compute": "#56B4E9", "upload": "#E69F00", "download": "#F0E442", "queue": "#CC79A7", "serve": "#009E73", "wait": "#DDDDDD",
    "down": "#D55E00", "forward": "#B3DDF2", "backward": "#0072B2",
    "inference": "#999999",
}  # fmt: skip


def gantt(result: Result, start: float = 0.0, end: float | None = None, workers: int = 16, ax: Axes | None = None) -> Axes:
    """The first ``workers`` workers between two virtual times (by default about the first four rounds; in
    a pipeline as many times as it has stages).

    Work that a crash or a recall cut short is hatched; a thin line ends each piece of work.
    """
    ax = axes(ax)
    events = table(result, "events")
    events = events[(events["worker"] < workers) & (events["kind"] != "stop")]
    if end is None:
        passes = events[events["kind"].isin(WORK)]
        work = passes["end"] - passes["start"]
        end = start + 4.0 * stages_of(result.manifest) * float(work.mean() if len(work) else 1.0)
    shown = events[(events["end"] > start) & (events["start"] < end)]
    for (of, complete), spans in shown.groupby(["kind", "complete"], observed=True):
        kind = str(of)
        left = spans["start"].clip(lower=start)
        ax.barh(
            spans["worker"], spans["end"].clip(upper=end) - left, left=left, height=0.82,
            color=FILL.get(kind, "#999999"), edgecolor="white",
            linewidth=0.6, hatch=None if complete or kind in NOTHING_LOST else "////",
            label=kind if complete or kind in NOTHING_LOST else f"{kind}, lost",
        )  # fmt: skip
    stops = result.events[(result.events["kind"] == "stop") & (result.events["worker"] < workers)]
    stop: Any  # a row, whose columns are attributes
    for stop in stops[stops["start"].between(start, end)].itertuples():
        ax.plot(stop.start, stop.worker, "X", color="black", markersize=6)
    ax.set_xlim(start, end)
    ax.set_ylim(min(workers, int(events["worker"].max() if len(events) else 0) + 1) - 0.4, -0.6)
    ax.set_xlabel("virtual time (s)")
    ax.set_ylabel("worker")
    ax.grid(False)
    every = int(result.summary.get("workers") or result.events["worker"].max() + 1)
    if every > workers:
        remark(ax, f"{workers} of {every:,} workers")
    if len(shown):
        ax.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=4, handlelength=1.2, columnspacing=1.2)
    return ax
