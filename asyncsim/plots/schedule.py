"""Draw which stage does the forward and backward pass of which batch when, as the papers on pipelines do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from asyncsim.errors import UserError
from asyncsim.plots.remarks import remark
from asyncsim.plots.style import DOUBLE, axes, figure_of
from asyncsim.plots.tables import table
from asyncsim.records import Result
from asyncsim.records.rows import WORK
from asyncsim.records.stage_tables import stages_of

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

FILL = {"forward": "#56B4E9", "backward": "#E69F00", "compute": "#009E73", "inference": "#999999"}
BATCHES = 8
MOST_ROWS = 32
DIGIT = 0.065
"""The width in inches that a digit needs; a number that does not fit into its box is left out."""


def schedule(
    result: Result, start: float = 0.0, end: float | None = None, batches: int | None = None, ax: Axes | None = None
) -> Axes:  # fmt: skip
    """A row a worker, stage 1 at the bottom of its group; a box a pass, with the number of its batch (or micro-batch) as in the
    events. White is idle, or waits for a message; what a crash cut short is hatched.

    Where both passes of a batch are done in one go the box has both colours, and stands for the last stage's share of forward
    time. Without ``end`` (virtual seconds) it goes on until ``batches`` batches have come back to the first stage. Default: 8,
    or twice the number of stages, which shows the warm-up; but no more than fits.
    """
    if batches is not None and batches < 1:
        raise UserError(f"batches: {batches} must be 1 or more")
    if end is not None and end <= start:
        raise UserError(f"the schedule would end at {end:g} s, not after its start at {start:g} s")
    events = table(result, "events")
    stages = stages_of(result.manifest)
    ax = axes(ax, DOUBLE, 0.9 + 0.22 * min(rows(result), MOST_ROWS))
    passes = events[events["kind"].isin(WORK) & (events["worker"] < _whole_groups(stages))]
    if end is None:
        end = _until(passes, start, max(BATCHES, 2 * stages) if batches is None else batches)
        if batches is None:
            end = min(end, start + 8 * max(stages, 2) * float((passes["end"] - passes["start"]).mean()))
    shown = passes[(passes["end"] > start) & (passes["start"] < end)]
    size = figure_of(ax).get_size_inches()[0] * ax.get_position().width / max(end - start, 1e-12)  # inches a second
    height = {worker: _row(worker, stages) for worker in range(int(passes["worker"].max() + 1 if len(passes) else 1))}
    each: Any  # a row, whose columns are attributes
    for each in shown.itertuples():
        for kind, left, right in _parts(each, result):
            left, right = max(left, start), min(right, end)
            if left < right:
                ax.barh(
                    height[each.worker], right - left, left=left, height=0.9, color=FILL[kind], edgecolor="white", linewidth=0.5,
                    hatch=None if each.complete else "////", label=kind,
                )  # fmt: skip
                if (right - left) * size > DIGIT * len(str(each.step)):
                    ax.text((left + right) / 2, height[each.worker], str(each.step), ha="center", va="center", fontsize=6)
    for worker in list(height)[:: stages if stages > 1 else len(height)][1:]:
        ax.axhline(worker - 0.5, color="#555555", linewidth=0.6)
    ax.set_xlim(start, end)
    ax.set_ylim(max(height.values()) + 0.6, -0.6)
    ax.set_yticks(list(height.values()), [_name(worker, stages, len(height)) for worker in height])
    ax.tick_params(axis="y", length=0)
    ax.set_xlabel("virtual time (s)")
    ax.set_ylabel("worker" if stages == 1 else "stage")
    ax.grid(False)
    every = int(result.summary.get("workers") or 0)
    if every > rows(result):
        remark(ax, f"{rows(result)} of {every:,} workers")
    _legend(ax)
    return ax


def rows(result: Result) -> int:
    """How many rows the picture of a run has."""
    return min(int(result.summary.get("workers") or 8), _whole_groups(stages_of(result.manifest)))


def _whole_groups(stages: int) -> int:
    return max(stages, MOST_ROWS // stages * stages)


def _until(passes: pd.DataFrame, start: float, batches: int) -> float:
    """When the first worker has done that many backward passes from ``start`` on."""
    done = passes[(passes["worker"] == 0) & (passes["kind"] != "forward") & passes["complete"] & (passes["end"] > start)]["end"]
    if len(done):
        return float(done.sort_values().iloc[min(batches, len(done)) - 1])
    return float(passes["end"].max()) if len(passes) else start + 1.0


def _row(worker: int, stages: int) -> int:
    """Stage 1 is the lowest row of its group; replicas go from the top."""
    return worker if stages == 1 else worker // stages * stages + stages - 1 - worker % stages


def _name(worker: int, stages: int, workers: int) -> str:
    if stages == 1:
        return str(worker)
    stage = str(worker % stages + 1)
    return f"group {worker // stages + 1}:  {stage}" if workers > stages and worker % stages == stages - 1 else stage


def _parts(span: Any, result: Result) -> list[tuple[str, float, float]]:
    """The colours of a box: kind, start and end of each. Both passes in one go are two, in a run whose model is cut."""
    if span.kind != "compute" or stages_of(result.manifest) == 1:
        return [(span.kind, span.start, span.end)]
    middle = span.start + (span.end - span.start) * result.manifest["scenario"]["stages"].get("forward", 1 / 3)
    return [("forward", span.start, middle), ("backward", middle, span.end)]


def _legend(ax: Axes) -> None:
    handles = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    shown = [kind for kind in FILL if kind in handles]
    if shown:
        ax.legend(
            [handles[kind] for kind in shown], shown, ncols=3, handlelength=1.2, loc="lower right", bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.2,
        )  # fmt: skip
