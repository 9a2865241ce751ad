"""The figures that a run or a study writes without being asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from asyncsim.errors import UserError
from asyncsim.plots.convergence import convergence
from asyncsim.plots.kinds import figure, write_figure
from asyncsim.plots.scales import logarithmic
from asyncsim.plots.style import DOUBLE, RC
from asyncsim.plots.tables import headline
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def write_figures(results: Sequence[Result], labels: Sequence[str], folder: Path) -> list[Path]:
    """Convergence against virtual time and updates, staleness, and a Gantt chart of one run a label; PNG files in ``folder``."""
    import matplotlib

    matplotlib.use("Agg", force=False)
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    evaluated = [(result, label) for result, label in zip(results, labels, strict=True) if _evaluated(result)]
    if evaluated:
        chosen, named = zip(*evaluated, strict=True)
        with plt.rc_context(RC):
            drawn, (left, right) = plt.subplots(1, 2, figsize=(DOUBLE, 2.9), layout="constrained", sharey=True)
            metric = headline(chosen)
            convergence(chosen, metric, "time", named, left)
            _far_apart(left, chosen)
            convergence(chosen, metric, "updates", named, right).set_ylabel("")
            for ax in (left, right):
                ax.get_legend().remove()
            handles, texts = left.get_legend_handles_labels()
            drawn.legend(handles, texts, loc="outside upper center", ncols=min(4, len(texts)))
        written.append(write_figure(drawn, folder / "convergence.png"))
    for name, table in (("staleness", "updates"), ("gantt", "events")):
        kept = [(result, label) for result, label in zip(results, labels, strict=True) if len(getattr(result, table))]
        if kept:
            chosen, named = zip(*kept, strict=True)
            written.append(write_figure(figure(name, chosen, list(named)), folder / f"{name}.png"))
    return written


def _far_apart(ax: Axes, results: Sequence[Result]) -> None:
    """Make the time axis logarithmic where one run takes ten times as long as another, which could not be seen otherwise."""
    ends = [run.summary["time"] for run in results if run.summary.get("time")]
    if ends and max(ends) >= 10 * min(ends):
        logarithmic(ax, "x", [min(ends) / 100, max(ends)])


def _evaluated(result: Result) -> bool:
    try:
        return bool(headline([result])) and len(result.metrics) > 0
    except UserError:
        return False
