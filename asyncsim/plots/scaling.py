"""What becomes of a run as workers are added: final metric, time to target, speed-up against N."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np

from asyncsim.errors import UserError
from asyncsim.metrics import rising
from asyncsim.plots.counts import Point, draw_points, finish
from asyncsim.plots.fields import check_field, field_value
from asyncsim.plots.remarks import few, remark
from asyncsim.plots.scales import in_percent, logarithmic, name_of, numeric, percent
from asyncsim.plots.style import axes, grouped
from asyncsim.plots.tables import curve, diverged, final, headline, only_ended
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Labels = Sequence[str] | str | None


SPENT = {"time": "virtual time (s)", "cost": "dollars", "energy": "joules"}


def final_metric(
    results: Result | Sequence[Result],
    metric: str | None = None,
    x: str = "workers",
    labels: Labels = None,
    ax: Axes | None = None,
) -> Axes:
    """The metric at the end of the runs (or any number of the summary) against worker counts, a line a method.

    Points are means over seeds, bars go from the smallest to the largest. Runs that diverged stand as crosses along the top, with
    their count; the mean over the others is then an open point. ``x`` may be another field of the scenario.
    """
    runs = only_ended(_listed(results))
    metric = metric or headline(runs)
    ax = axes(ax)
    series = few(_series(results, lambda run: final(run, metric), x, labels), ax)
    values = draw_points(ax, series)
    ax.set_ylabel(name_of(metric))
    if metric.endswith("_error"):
        logarithmic(ax, "y", values, shares=True)
    elif percent(metric):
        in_percent(ax.yaxis)
    finish(ax, series, x, "diverged")
    return ax


def time_to_target(
    results: Result | Sequence[Result],
    metric: str | None = None,
    level: float | None = None,
    x: str = "workers",
    labels: Labels = None,
    ax: Axes | None = None,
) -> Axes:
    """Virtual seconds until the target is first reached, against worker counts.

    The target is the scenario's (``run.target``), or ``metric`` at ``level``: at least, for an accuracy or AUC; at most, for all
    else. Runs that never reached it stand as crosses along the top, with their count, and the mean over the others is an open
    point.
    """
    return _to_target("time", results, metric, level, x, labels, ax)


def cost_to_target(
    results: Result | Sequence[Result],
    metric: str | None = None,
    level: float | None = None,
    x: str = "workers",
    labels: Labels = None,
    ax: Axes | None = None,
) -> Axes:
    """As ``time_to_target``, in dollars: for runs with prices."""
    return _to_target("cost", results, metric, level, x, labels, ax)


def energy_to_target(
    results: Result | Sequence[Result],
    metric: str | None = None,
    level: float | None = None,
    x: str = "workers",
    labels: Labels = None,
    ax: Axes | None = None,
) -> Axes:
    """As ``time_to_target``, in joules: for runs with prices."""
    return _to_target("energy", results, metric, level, x, labels, ax)


def _to_target(
    of: str,
    results: Result | Sequence[Result],
    metric: str | None,
    level: float | None,
    x: str,
    labels: Labels,
    ax: Axes | None,
) -> Axes:
    measure = _reaching(_listed(results), metric, level, of)
    ax = axes(ax)
    series = few(_series(results, measure, x, labels), ax)
    values = draw_points(ax, series)
    ax.set_ylabel(f"{SPENT[of]} to\n{_goal(_listed(results), metric, level)}")
    logarithmic(ax, "y", values)
    finish(ax, series, x, "never reached")
    return ax


def speedup(
    results: Result | Sequence[Result],
    of: Literal["auto", "target", "samples"] = "auto",
    metric: str | None = None,
    level: float | None = None,
    baseline: str | None = None,
    labels: Labels = None,
    ax: Axes | None = None,
) -> Axes:
    """How many times faster than with the fewest workers: in time to the target, or in samples per virtual second.

    Ratios of mean times; bars go from the slowest to the fastest seed. Each label is compared with its own runs of the fewest
    workers, or with those of the label ``baseline``. Dashed in grey: as many times faster as there are more workers. ``auto``
    means the target where the runs have one, else samples.
    """
    runs = only_ended(_listed(results))
    if of == "auto":
        of = "target" if level is not None or any("time_to_target" in run.summary for run in runs) else "samples"
    if of == "target":
        measure = _reaching(runs, metric, level)
    elif of == "samples":
        measure = lambda run: 1.0 / rate if (rate := final(run, "samples_per_second")) > 0 else math.nan  # noqa: E731
    else:
        raise UserError(f"of: {of!r} is none of auto, target, samples")
    ax = axes(ax)
    series = _series(results, measure, "workers", labels)
    if baseline is not None and baseline not in series:
        raise UserError(f"baseline: {baseline!r} is no label; there are: {', '.join(series)}")
    if any(value == 0 for points in series.values() for point in points for value in point.values):
        raise UserError("a run was at the target before its first update, and nothing is a multiple of no time; move the target")
    faster: dict[str, list[Point]] = {}
    starts = []
    for name, points in series.items():
        base = series[baseline or name][0]
        starts.append(base.x)
        faster[name] = [
            p._replace(values=tuple(base.mean / value for value in p.values), mean=base.mean / p.mean) for p in points
        ]
    faster = few(faster, ax)
    values = draw_points(ax, faster)
    if baseline is None and all(len(points) == 1 for points in series.values()):
        remark(ax, "every curve has one worker count and is compared with itself; name another with `baseline`")
    counts = sorted({point.x for points in series.values() for point in points})
    if len(set(starts)) == 1:
        ideal = [count / starts[0] for count in counts]
        ax.plot(counts, ideal, color="#888888", linestyle="--", linewidth=0.9, zorder=1, label="as many as workers")
        values = [*values, *(each for each in ideal if each <= 4 * max(values, default=1.0))]
        against = f"N = {starts[0]:g}" + (f", {baseline}" if baseline else "")
    else:
        against = "each one's smallest N"
    ax.set_ylabel(f"speed-up over {against}\n" + ("(time to target)" if of == "target" else "(samples per virtual second)"))
    logarithmic(ax, "y", values)
    finish(ax, faster, "workers", "never reached")
    return ax


def _listed(results: Result | Sequence[Result]) -> list[Result]:
    return [results] if isinstance(results, Result) else list(results)


def _series(
    results: Result | Sequence[Result], measure: Callable[[Result], float], x: str, labels: Labels
) -> dict[str, list[Point]]:  # fmt: skip
    """Points of every label, by x. Runs that have not ended are left out."""
    runs = _listed(results)
    check_field(runs, x)
    series: dict[str, list[Point]] = {}
    for name, group in grouped(runs, labels, without=(x,)).items():
        group = [run for run in group if "updates" in run.summary]
        places = numeric([field_value(run, x) for run in group], x)
        points = []
        for place in np.unique(places):
            here = [run for run, at in zip(group, places, strict=True) if at == place]
            values = [math.nan if diverged(run) else measure(run) for run in here]
            finite = tuple(value for value in values if math.isfinite(value))
            mean = float(np.mean(finite)) if finite else math.nan
            points.append(Point(float(place), finite, len(here), sum(diverged(run) for run in here), mean))
        if points:
            series[name] = points
    return series


def _reaching(runs: list[Result], metric: str | None, level: float | None, of: str = "time") -> Callable[[Result], float]:
    """What of ``SPENT`` a run had spent when it reached a target."""
    if level is None:
        if metric is not None:
            raise UserError("a target needs a level too, such as --metric test_accuracy --level 0.9")
        if not any("time_to_target" in run.summary for run in runs):
            raise UserError("these runs have no target (`run.target` in the scenario); give a metric and a level")
        if not any(f"{of}_to_target" in run.summary for run in runs):
            raise UserError("these runs have no prices (`cluster.instance` in the scenario)")
        return lambda run: final(run, f"{of}_to_target") if f"{of}_to_target" in run.summary else math.nan
    metric = metric or headline(runs)

    def measure(run: Result) -> float:
        x, y = curve(run, metric, of)
        reached = x[y >= level] if rising(metric) else x[y <= level]
        return float(reached[0]) if len(reached) else math.nan

    return measure


def _goal(runs: list[Result], metric: str | None, level: float | None) -> str:
    if level is not None:
        metric = metric or headline(runs)
        sign = "≥" if rising(metric) else "≤"
        return f"{name_of(metric)} {sign} {f'{100 * level:g} %' if percent(metric) else f'{level:g}'}"
    targets = {str(run.manifest.get("scenario", {}).get("run", {}).get("target")) for run in runs}
    target = runs[0].manifest.get("scenario", {}).get("run", {}).get("target")
    if len(targets) != 1 or not target:
        return "target"
    sign, level = ("≥", target["at_least"]) if target.get("at_least") is not None else ("≤", target["at_most"])
    return f"{name_of(target['metric'])} {sign} {f'{100 * level:g} %' if percent(target['metric']) else f'{level:g}'}"
