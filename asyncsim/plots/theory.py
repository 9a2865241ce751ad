"""Theory over figures of simulated runs: what the formulas of `asyncsim.theory` predict, in black, and what they say nothing
about.

Each function draws over one kind of figure that is there already, and leaves its axes as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from asyncsim.errors import UserError
from asyncsim.plots.convergence import axis_of
from asyncsim.plots.fields import workers_of
from asyncsim.plots.remarks import MOST_CURVES, few, remark
from asyncsim.plots.scales import logarithmic
from asyncsim.plots.style import OURS, grouped, legend
from asyncsim.plots.tables import headline, table
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from asyncsim.standing import Facts

Labels = Sequence[str] | str | None
LOOK: dict[str, Any] = {"color": "#000000", "linestyle": (0, (1.2, 1.2)), "linewidth": 1.1, "zorder": 5}
MOST_UPDATES = 20_000


def over_convergence(
    ax: Axes, results: Sequence[Result], labels: Labels = None, metric: str | None = None, against: str = "time"
) -> None:
    """The mean loss, or the root of the mean squared distance, of runs on the quadratic task: the recurrence of the mean with the
    staleness that the runs had, and the variance that noise adds. A remark names the labels of which theory says nothing.

    Raises ``UserError`` where it says nothing of any.
    """
    groups = few(grouped(results, labels), ax, MOST_CURVES)
    metric = metric or headline(run for runs in groups.values() for run in runs)
    column, _ = axis_of(against)
    silent: dict[str, str] = {}
    limits = ax.get_xlim(), ax.get_ylim()
    for name, runs in groups.items():
        facts = _facts(runs[0])
        longest = max(runs, key=lambda run: len(run.metrics))
        frame = table(longest, "metrics")
        updates = int(frame["version"].iloc[-1])
        why = facts.silent or _why_no_path(facts, metric, updates)
        if why is not None:
            silent[name] = why
            continue
        values = _path(facts, runs, updates, metric)[frame["version"].to_numpy(dtype=np.int64)]
        with np.errstate(invalid="ignore"):
            shown = np.isfinite(values)
        ax.plot(frame[column].to_numpy(dtype=float)[shown], values[shown], label=_entry(ax), **LOOK)
    _say(ax, silent, len(groups), "convergence")
    ax.set(xlim=limits[0], ylim=limits[1])
    _renewed(ax)


def _why_no_path(facts: Facts, metric: str, updates: int) -> str | None:
    if not facts.quadratic:
        return "its curvature is not known, as the task is not quadratic"
    if not metric.endswith(("_loss", "_distance")):
        return f"it predicts loss and distance, not {metric}"
    if not facts.constant_rate:
        return "its learning rate is not constant"
    if updates > MOST_UPDATES:
        return f"it made more than {MOST_UPDATES:,} updates"
    return None


def _path(facts: Facts, runs: list[Result], updates: int, metric: str) -> np.ndarray:
    """The metric after each update, ``(updates + 1,)``."""
    from asyncsim.standing import law_of, weights_of
    from asyncsim.theory import mean_path, noise_path

    law = law_of(_staleness(runs), 0)
    together = sum(len(_counted(run)) for run in runs) / max(1, sum(int(run.summary.get("updates", 0)) for run in runs))
    noise = facts.noise / math.sqrt(max(1.0, together))
    weights = weights_of(facts, law)
    total = np.zeros(updates + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        for h in np.unique(facts.curvatures):
            here = facts.curvatures == h
            a = facts.lr * float(h)
            mean = mean_path(a, law, updates, facts.momentum, facts.nesterov, weights) if a else np.ones(updates + 1)
            square = float((facts.starts[here] ** 2).sum()) * mean**2
            if noise:
                added = noise_path(facts.lr, law, updates, noise, float(h), facts.momentum, facts.nesterov, weights)
                square = square + int(here.sum()) * added
            total += square * (float(h) / 2 if metric.endswith("_loss") else 1.0)
        return total if metric.endswith("_loss") else np.sqrt(total)


def over_staleness(ax: Axes, results: Sequence[Result], labels: Labels = None) -> None:
    """The law of staleness of equal workers with gamma (constant, exponential) compute times that never wait
    (`gamma_staleness`). Raises ``UserError`` where no run is of that kind."""
    from asyncsim.theory import gamma_staleness

    groups = few(grouped(results, labels), ax, MOST_CURVES)
    silent: dict[str, str] = {}
    laws: set[tuple[int, float]] = set()
    for name, runs in groups.items():
        facts = _facts(runs[0])
        if facts.spread is None or not facts.alone:
            silent[name] = "workers differ, wait, stop or send, or times are not gamma"
        elif facts.workers > 512 or facts.spread > 2:
            silent[name] = "more than 512 workers, or CV above 2"
        elif len({workers_of(run) for run in runs}) > 1:
            silent[name] = "runs of several sizes share a label"
        else:
            laws.add((facts.workers, facts.spread))
    _say(ax, silent, len(groups), "staleness")
    limits = ax.get_xlim()
    for workers, spread in sorted(laws):
        law = gamma_staleness(workers, spread)
        places = np.flatnonzero(law > law.max() * 1e-4)
        ax.plot(places, law[places], label=_entry(ax), **{**LOOK, "marker": ".", "markersize": 3})
    ax.set_xlim(limits)
    _renewed(ax)


def over_final(ax: Axes, results: Sequence[Result], labels: Labels = None, metric: str | None = None, x: str = "workers") -> None:
    """Against worker counts, on the quadratic task: the number that converges fastest at the runs' learning rate (dotted
    line), and from where on the runs diverge (shaded). Noise is left out. Raises ``UserError`` where it is not known of any
    label."""
    from asyncsim.theory import best_workers, most_workers

    if x not in ("workers", "cluster.workers"):
        raise UserError(f"theory of the kind final is about worker counts, not {x}: leave out `x`, or `theory`")
    groups = few(grouped(results, labels, without=(x,)), ax, MOST_CURVES)
    silent: dict[str, str] = {}
    found: dict[tuple[int, int], list[str]] = {}
    for name, runs in groups.items():
        every = [_facts(run) for run in runs]
        facts = every[0]
        why = facts.silent or _why_no_best(every)
        if why is not None:
            silent[name] = why
            continue
        assert facts.spread is not None
        best = best_workers(facts.lr, facts.moving, facts.spread).workers
        found.setdefault((best, most_workers(facts.lr, float(facts.moving.max()), facts.spread)), []).append(name)
    _say(ax, silent, len(groups), "final")
    _far_apart(ax)
    limits = ax.get_xlim()
    for (best, most), names in found.items():
        told = "" if len(found) == 1 else f" ({', '.join(names)})"
        ax.axvline(best, label=f"theory: fastest N = {best:,}{told}", **LOOK)
        if most < limits[1]:
            text = f"theory: diverges, N > {most:,}{told}"
            ax.axvspan(most + 0.5, limits[1], color="#000000", alpha=0.07, linewidth=0, label=text)
    ax.set_xlim(limits)
    _renewed(ax)


def _far_apart(ax: Axes) -> None:
    """A logarithmic axis for numbers that span more than a factor of 20, as in figures of convergence, unless a row of crosses
    has taken a part of the axis."""
    lines = [line for line in ax.get_lines() if line.get_transform() == ax.transData]
    values = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in lines] or [np.empty(0)])
    crossed = any(line.get_label() == "_floor" for line in ax.get_lines())
    if not crossed and len(values) and values.min() > 0 and values.max() > 20 * values.min():
        logarithmic(ax, "y", values)


def _why_no_best(every: list[Facts]) -> str | None:
    facts = every[0]
    if not facts.quadratic:
        return "its curvature is not known, as the task is not quadratic"
    if not facts.free_asgd or not facts.constant_rate:
        return "the best N is known for asgd without momentum, at a constant rate, on a fleet that only computes"
    if not facts.gamma_fleet:
        return "its workers differ, or their times are not gamma of CV up to 1"
    if len({(each.lr, each.spread) for each in every}) > 1:
        return "its runs have several learning rates or fleets"
    if facts.tiny_step:
        return "at so small a step more workers are always faster"
    return None


def _facts(run: Result) -> Facts:
    from asyncsim.standing import facts_of

    return facts_of(run.manifest.get("scenario") or {}, workers_of(run) or 1)


def _counted(run: Result) -> np.ndarray:
    frame = table(run, "updates")
    return frame.loc[frame["outcome"] != "dropped", "staleness"].to_numpy()


def _staleness(runs: list[Result]) -> np.ndarray:
    """Of all `steady` pushes of the runs."""
    from asyncsim.standing import steady

    return np.concatenate([steady(_counted(run), workers_of(run) or 1) for run in runs])


def _entry(ax: Axes) -> str:
    """One entry in the legend for all that is predicted."""
    return "_theory" if "theory" in ax.get_legend_handles_labels()[1] else "theory"


def _say(ax: Axes, silent: dict[str, str], groups: int, kind: str) -> None:
    """A remark about labels of which nothing is predicted; an error where those are all."""
    if len(silent) == groups:
        name, why = next(iter(silent.items()))
        raise UserError(f"kind {kind}: theory says nothing of these runs; {name}: {why}")
    for why in dict.fromkeys(silent.values()):
        names = [name for name, reason in silent.items() if reason == why]
        remark(ax, f"no theory for {', '.join(names)}: {why}")


def _renewed(ax: Axes) -> None:
    """The legend again, with the new entries; the figure grows by their lines alone."""
    figure, shown = cast("Figure", ax.figure), ax.get_legend()
    before = 0 if shown is None else len(shown.get_texts())
    label, height = figure.get_label(), figure.get_size_inches()[1]
    figure.set_label("")
    legend(ax)
    figure.set_label(label)
    added = len(ax.get_legend_handles_labels()[1]) - before
    if label == OURS and added > 0:
        figure.set_size_inches(figure.get_size_inches()[0], height + 0.14 * (added + (before == 1)))
