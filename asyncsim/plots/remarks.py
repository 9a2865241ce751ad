"""Remarks: what a figure leaves out is written in the figure itself, in small type below the axes."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, TypeVar

from asyncsim.plots.style import figure_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")
MOST_CURVES = 10
"""The largest number of labels in one figure: that of the pairs of colour and dash in which both differ."""
_MARK = "asyncsim-remark"
LETTER = 0.047
"""The width of a letter of a remark, in inches."""


def remark(ax: Axes, text: str) -> None:
    """Write a remark below the axes, after those that are there already."""
    before = next((each for each in ax.texts if each.get_gid() == _MARK), None)
    whole = text if before is None else f"{' '.join(before.get_text().split())}; {text}"
    if before is not None:
        before.remove()
    inches = figure_of(ax).get_size_inches()[0] * 0.95 * ax.get_position().width
    lines = textwrap.wrap(whole, max(30, int(inches / LETTER)), break_long_words=True)
    ax.annotate(
        "\n".join(lines), (0, 0), xycoords="axes fraction", xytext=(0, -29), textcoords="offset points", va="top", fontsize=6,
        color="#555555", gid=_MARK, annotation_clip=False,
    )  # fmt: skip


def remarks(drawn: Figure) -> list[str]:
    """All remarks of a figure, each of them once."""
    said = [" ".join(text.get_text().split()) for ax in drawn.axes for text in ax.texts if text.get_gid() == _MARK]
    return list(dict.fromkeys(said))


def few(groups: dict[str, list[T]], ax: Axes, most: int = MOST_CURVES) -> dict[str, list[T]]:
    """The first ``most`` labels; a remark names the number that is left out, and the first of them."""
    if len(groups) <= most:
        return groups
    names = list(groups)
    remark(ax, f"{most} of {len(groups)} settings; left out: {shortened(names[most])} and the {len(groups) - most - 1} after it"
           if len(groups) > most + 1 else f"{most} of {len(groups)} settings; left out: {shortened(names[most])}")  # fmt: skip
    return {name: groups[name] for name in names[:most]}


def shortened(text: str, most: int = 60) -> str:
    """The text; if it is longer than ``most``, without its middle."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]} … {text[len(text) - most // 2 + 2 :]}"
