"""The style of all figures: colours that the colour-blind can tell apart, the same look for the same method everywhere, and
readable in print."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from asyncsim.plots.fields import labels_for
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

# Okabe and Ito (2008), black last; yellow is left to areas, as a line it is lost on white. Then three of Tol's (2021).
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#999933", "#332288")
KNOWN = {
    "one_worker": "#000000",
    "asgd": "#D55E00",
    "staleness_aware": "#E69F00",
    "gap_aware": "#0072B2",
    "bsp": "#009E73",
    "synchronous": "#009E73",
    "dana": "#CC79A7",
    "dana_gap_aware": "#56B4E9",
    "softsync": "#882255",
    "ssp": "#999933",
    "dc_asgd": "#332288",
}  # fmt: skip
RC: dict[RcKeyType, Any] = {
    "text.usetex": False,  # labels are no TeX: a per cent sign would begin a comment in it
    "axes.prop_cycle": f'cycler("color", {list(PALETTE)})', "image.cmap": "viridis", "savefig.format": "png",
    "figure.dpi": 110, "savefig.dpi": 200, "font.size": 8, "axes.titlesize": 8.5, "axes.labelsize": 8, "legend.fontsize": 7,
    "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "axes.linewidth": 0.7, "xtick.major.width": 0.7, "ytick.major.width": 0.7,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "axes.axisbelow": True,
    "grid.alpha": 0.25, "grid.linewidth": 0.6, "hatch.linewidth": 0.6,
    "lines.linewidth": 1.5, "lines.markersize": 4, "legend.frameon": False, "legend.handlelength": 2.4, "savefig.bbox": "tight",
    "pdf.fonttype": 42, "ps.fonttype": 42, "svg.hashsalt": "asyncsim",
}  # fmt: skip
SINGLE, DOUBLE = 3.3, 6.9
"""Widths of a figure in one and in two columns of a paper, in inches."""
OURS = "asyncsim"
"""Label of the figures that were made here, whose size may be changed."""
DASHES = ("-", (0, (5, 1.6)), (0, (5, 1.4, 1, 1.4)), (0, (1, 1.2)), (0, (8, 1.5, 2, 1.5)))
POINTS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
RAMP = ("#440154", "#3B528B", "#21918C", "#4AAF5E", "#B8A812")  # viridis, its yellow darkened

LETTER = 0.052
"""Inches that a letter of a legend takes."""
LINES = 3
"""Of an entry in a legend."""

Groups = dict[str, list[Result]]


class Look(NamedTuple):
    """The look of a label: a colour, and a dash and a marker for readers who cannot tell colours apart, or print in grey."""

    colour: str
    dash: str | tuple
    point: str


def grouped(
    results: Result | Sequence[Result], labels: Sequence[str] | str | None = None, without: Sequence[str] = ()
) -> Groups:  # fmt: skip
    """Results by label, in order of appearance; runs that share a label are seeds of one thing.

    ``labels``: one a result, or the name of a field whose values they are. Default: the variant or method, and whatever else
    differs but the seed and the fields ``without`` (``fields.labels_for``).
    """
    runs = [results] if isinstance(results, Result) else list(results)
    if not runs:
        raise ValueError("no results to draw")
    if labels is None or isinstance(labels, str):
        labels = labels_for(runs, labels, without)
        if (order := _numbered(labels)) is not None:
            runs = [run for _, run in sorted(zip(labels, runs, strict=True), key=lambda pair: order[pair[0]])]
            labels = sorted(labels, key=order.__getitem__)
    names = list(labels)
    if len(names) != len(runs):
        raise ValueError(f"{len(names)} labels for {len(runs)} results")
    groups: Groups = {}
    for name, run in zip(names, runs, strict=True):
        groups.setdefault(name, []).append(run)
    return groups


def colours(labels: Iterable[str]) -> dict[str, str]:
    """A colour for each label: its own if it is, or begins with, a well-known one, else the next of the palette that is not
    taken. Labels that are numbers of one thing (``N = 4``, ``lr 0.1``) get a ramp from dark to light, in their order.
    """
    labels = list(dict.fromkeys(labels))
    order = _numbered(labels)
    if order is not None:
        ordered = sorted(labels, key=order.__getitem__)
        return {label: _ramp(ordered.index(label) / (len(labels) - 1)) for label in labels}
    found: dict[str, str] = {label: KNOWN[label] for label in labels if label in KNOWN}
    for label in labels:
        shade = KNOWN.get(label.partition(",")[0])
        if shade is not None and shade not in found.values():
            found.setdefault(label, shade)
    free = iter([colour for colour in PALETTE if colour not in found.values()] + [*PALETTE] * (len(labels) // len(PALETTE) + 1))
    return {label: found[label] if label in found else next(free) for label in labels}


_NUMBERED = re.compile(r"(.* )?(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def _numbered(labels: Iterable[str]) -> dict[str, float] | None:
    """The numbers in labels that differ in nothing else; None if there is anything else."""
    every = {label: _NUMBERED.fullmatch(label) for label in labels}
    matches = {label: match for label, match in every.items() if match is not None}
    if len(matches) < max(2, len(every)) or len({match[1] for match in matches.values()}) > 1:
        return None
    return {label: float(match[2]) for label, match in matches.items()}


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """A look for each label. Dashes and markers follow the order of the labels."""
    return {
        label: Look(colour, DASHES[place % len(DASHES)], POINTS[place % len(POINTS)])
        for place, (label, colour) in enumerate(colours(labels).items())
    }


def _ramp(share: float) -> str:
    """A colour of ``RAMP``, interpolated."""
    place = share * (len(RAMP) - 1)
    low = min(int(place), len(RAMP) - 2)
    ends = [[int(code[start : start + 2], 16) for start in (1, 3, 5)] for code in RAMP[low : low + 2]]
    mixed = [round(a + (b - a) * (place - low)) for a, b in zip(*ends, strict=True)]
    return "#" + "".join(f"{value:02X}" for value in mixed)


def legend(ax: Axes) -> None:
    """Inside for a short entry; above the axes for more, where it hides nothing. A figure of ours grows by its height."""
    handles, texts = ax.get_legend_handles_labels()
    texts = [entry(text) for text in texts]
    lines = [line for text in texts for line in text.split("\n")]
    longest = max(map(len, lines), default=0)
    if len(texts) <= 1 and longest <= 18:
        ax.legend()
        return
    columns = 2 if len(texts) > 1 and 2 * (0.45 + LETTER * longest) <= _width(ax) else 1
    if ax.figure.get_label() == OURS:
        width, height = figure_of(ax).get_size_inches()
        figure_of(ax).set_size_inches(width, height + 0.14 * -(-len(lines) // columns))
    ax.legend(
        handles, texts, loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, columnspacing=1.2, borderaxespad=0.2,
        labelspacing=0.3,
    )  # fmt: skip


def _width(ax: Axes) -> float:
    """Inches between the left end of the axes and the right end of their part of the figure, about."""
    return figure_of(ax).get_size_inches()[0] * ax.get_position().width * 1.08


def entry(text: str, width: int = 40) -> str:
    """A label for a legend: at most three lines, each short enough for the width of one column."""
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width) or [""]]
    return "\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], f"{lines[LINES - 1][: width - 2]} …"])


def joined(labels: Sequence[str], most: int = 40) -> str:
    """Labels that share one curve, in lines that fit a legend; labels that have commas of their own are set off by semicolons."""
    between = "; " if any("," in label for label in labels) else ", "
    return "\n".join(textwrap.wrap(between.join(labels), most, break_long_words=False))


def figure_of(ax: Axes) -> Figure:
    """The whole figure in which the axes are."""
    from matplotlib.figure import Figure

    part = ax.figure
    return part if isinstance(part, Figure) else part.figure


@contextmanager
def in_style() -> Iterator[None]:
    """Draw in the style of all figures.

    The backend is made before: that of notebooks changes parameters of matplotlib, which would be changed back with ours, and no
    later figure would be shown.
    """
    import matplotlib.pyplot as plt

    plt.draw_if_interactive()
    with plt.rc_context(RC):
        yield


def axes(ax: Axes | None, width: float = SINGLE, height: float = 2.5) -> Axes:
    """The given axes, or new ones."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    with in_style():
        return plt.subplots(figsize=(width, height), layout="constrained", label=OURS)[1]
