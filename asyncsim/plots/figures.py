"""The figures that a run or a study writes without being asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asyncsim.errors import UserError
from asyncsim.plots.convergence import convergence
from asyncsim.plots.kinds import figure, headless, write_figure
from asyncsim.plots.remarks import remarks
from asyncsim.plots.style import DOUBLE, entry, in_style
from asyncsim.plots.tables import headline
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Tell = Callable[[str], None]


def write_figures(
    results: Sequence[Result], labels: Sequence[str], folder: Path, tell: Tell | None = None, swept: str | None = None
) -> list[Path]:
    """Convergence against virtual time and updates, staleness, and a Gantt chart of one run a label; PNG files in ``folder``.
    Of a sweep over the numbers of one field, ``swept``, also the metric at the end against it.

    ``tell`` is called with a sentence for each figure that leaves something out, or that could not be made, and why.
    """
    headless()
    folder.mkdir(parents=True, exist_ok=True)
    tell = tell or (lambda _: None)
    written: list[Path] = []

    def write(name: str, draw: Callable[[], Figure]) -> None:
        try:
            drawn = draw()
        except UserError as error:
            tell(f"{name}: not drawn: {error}")
            return
        for text in remarks(drawn):
            tell(f"{name}: {text}")
        written.append(write_figure(drawn, folder / name))

    evaluated = [(result, label) for result, label in zip(results, labels, strict=True) if _evaluated(result)]
    if evaluated:
        write("convergence.png", partial(_convergence, *zip(*evaluated, strict=True)))
    if evaluated and swept is not None:
        write("final.png", partial(figure, "final", [result for result, _ in evaluated], x=swept))
    for name, table in (("staleness", "updates"), ("gantt", "events")):
        kept = [(result, label) for result, label in zip(results, labels, strict=True) if len(getattr(result, table))]
        if kept:
            chosen, named = zip(*kept, strict=True)
            write(f"{name}.png", partial(figure, name, chosen, list(named)))
    return written


def _convergence(results: Sequence[Result], labels: Sequence[str]) -> Figure:
    """Against virtual time, and against updates, with one legend."""
    import matplotlib.pyplot as plt

    with in_style():
        drawn, (left, right) = plt.subplots(1, 2, figsize=(DOUBLE, 2.9), layout="constrained", sharey=True)
        try:
            metric = headline(results)
            convergence(results, metric, "time", labels, left)
            convergence(results, metric, "updates", labels, right).set_ylabel("")
        except BaseException:
            plt.close(drawn)
            raise
        for ax in (left, right):
            if ax.get_legend() is not None:
                ax.get_legend().remove()
        handles, texts = left.get_legend_handles_labels()
        texts = [entry(text) for text in texts]
        columns = max(1, min(4, len(texts), int(DOUBLE / (0.5 + 0.055 * max(map(len, texts))))))
        lines = sum(text.count("\n") + 1 for text in texts)
        drawn.set_size_inches(DOUBLE, 2.6 + 0.14 * -(-lines // columns))
        drawn.legend(handles, texts, loc="outside upper center", ncols=columns)
    return drawn


def _evaluated(result: Result) -> bool:
    try:
        return bool(headline([result])) and len(result.metrics) > 0
    except UserError:
        return False
