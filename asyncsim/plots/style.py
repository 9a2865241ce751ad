"""How figures look: colour-blind-safe, the same colour for the same label everywhere in a figure, readable in print."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito (2008), black last.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
KNOWN = {
    "one_worker": "#000000",
    "asgd": "#D55E00",
    "staleness_aware": "#E69F00",
    "gap_aware": "#0072B2",
    "bsp": "#009E73",
    "synchronous": "#009E73",
    "dana": "#CC79A7",
    "dana_gap_aware": "#56B4E9",
}  # fmt: skip
RC = {
    "figure.dpi": 110, "savefig.dpi": 200, "font.size": 9, "axes.titlesize": 10, "axes.labelsize": 9, "legend.fontsize": 8,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "grid.linewidth": 0.6,
    "lines.linewidth": 1.6, "legend.frameon": False, "savefig.bbox": "tight",
}  # fmt: skip
MARKS = ("-", "--", "-.", ":")

Groups = dict[str, list[Result]]


def grouped(results: Result | Sequence[Result], labels: Sequence[str] | None = None) -> Groups:
    """Results by label, in order of appearance; runs that share a label are seeds of one thing. Default label: the method."""
    runs = [results] if isinstance(results, Result) else list(results)
    names = list(labels) if labels is not None else [str(run.summary.get("method", run.name)) for run in runs]
    if len(names) != len(runs):
        raise ValueError(f"{len(names)} labels for {len(runs)} results")
    groups: Groups = {}
    for name, run in zip(names, runs, strict=True):
        groups.setdefault(name, []).append(run)
    return groups


def colours(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label: its own if it is a well-known one, else the next of the palette that is not taken."""
    labels = list(dict.fromkeys(labels))
    taken = {KNOWN[label] for label in labels if label in KNOWN}
    free = iter([colour for colour in PALETTE if colour not in taken] * (len(labels) + 1))
    return {label: KNOWN[label] if label in KNOWN else next(free) for label in labels}


def axes(ax: Axes | None) -> Axes:
    """The given axes, or fresh ones."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    with plt.rc_context(RC):
        return plt.subplots(figsize=(4.6, 3.2), layout="constrained")[1]
