"""Figures of several timelines: Gantt charts side by side, schedules one below the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from asyncsim.plots.fields import labels_for
from asyncsim.plots.gantt import gantt
from asyncsim.plots.remarks import remark, shortened
from asyncsim.plots.schedule import rows, schedule
from asyncsim.plots.style import DOUBLE, SINGLE
from asyncsim.records import Result
from asyncsim.records.stage_tables import stages_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_TIMELINES = 3
"""Gantt charts and schedules in one figure."""


def gantts(results: Sequence[Result], labels: Sequence[str] | str | None, width: float | None) -> Figure:
    """Side by side, with one legend."""
    import matplotlib.pyplot as plt

    different = _different(results, labels)
    shown = list(different.items())[:MOST_TIMELINES]
    size = width or (SINGLE if len(shown) == 1 else DOUBLE)
    lanes = max(min(16, run.summary.get("workers", 8)) for _, run in shown)
    drawn, lanes_axes = plt.subplots(
        1, len(shown), figsize=(size, 1.3 + 0.13 * lanes), layout="constrained", squeeze=False
    )  # fmt: skip
    for ax, (label, run) in zip(lanes_axes[0], shown, strict=True):
        gantt(run, ax=ax).set_title(shortened(label, 100 // len(shown)))
        if ax.get_legend() is not None:
            ax.get_legend().remove()
        if ax is not lanes_axes[0][0]:
            ax.set_ylabel("")
    _leave_out(lanes_axes[0][0], different)
    entries = {text: handle for ax in lanes_axes[0] for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    if entries:
        drawn.legend(entries.values(), entries, loc="outside lower center", ncols=min(len(entries), 4 if size <= SINGLE else 7))
    return drawn


def schedules(
    results: Sequence[Result], labels: Sequence[str] | str | None, width: float | None, options: dict[str, Any]
) -> Figure:  # fmt: skip
    """One below the other, with one legend."""
    import matplotlib.pyplot as plt

    different = _different(results, labels)
    shown = list(different.items())[:MOST_TIMELINES]
    heights = [0.65 + 0.2 * rows(run) for _, run in shown]
    drawn, places = plt.subplots(
        len(shown), 1, figsize=(width or DOUBLE, sum(heights) + 0.15), layout="constrained", squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for ax, (label, run) in zip(places[:, 0], shown, strict=True):
        schedule(run, ax=ax, **options).set_title(shortened(label, 80), loc="left")
        if ax is not places[0, 0] and ax.get_legend() is not None:
            ax.get_legend().remove()
        if ax is not places[-1, 0]:
            ax.set_xlabel("")
    if all(stages_of(run.manifest) == 1 for _, run in shown):
        remark(places[-1, 0], "no stages in these runs: the kind `gantt` also shows their transfers and waiting")
    _leave_out(places[-1, 0], different)
    return drawn


def _leave_out(ax: Any, different: dict[str, Result]) -> None:
    left = list(different)[MOST_TIMELINES:]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        remark(ax, f"{MOST_TIMELINES} of {len(different)} different timelines; left out: {shortened(left[0])}{more}")


def _different(results: Sequence[Result], labels: Sequence[str] | str | None) -> dict[str, Result]:
    """The first run of each label, one for each different timeline."""
    if labels is None or isinstance(labels, str):
        labels = labels_for(results, labels)
    first: dict[str, Result] = {}
    for label, run in zip(labels, results, strict=True):
        first.setdefault(label, run)
    return distinct_timelines(first)


def distinct_timelines(runs: dict[str, Result]) -> dict[str, Result]:
    """One run for each different timeline that has more than one worker (or any number, if there is none), with the labels of
    equal ones joined."""
    shared: dict[str, list[str]] = {}
    several = {label: run for label, run in runs.items() if run.summary.get("workers", 2) > 1} or runs
    for label, run in several.items():
        shared.setdefault(run.fingerprints.get("timeline", label), []).append(label)
    return {_joined(labels): runs[labels[0]] for labels in shared.values()}


def _joined(labels: list[str], longest: int = 40) -> str:
    whole = ", ".join(labels)
    return whole if len(whole) <= longest else f"{labels[0]} and {len(labels) - 1} more"
