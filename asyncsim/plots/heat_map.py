"""Draw a metric over two swept fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asyncsim.errors import UserError
from asyncsim.plots.fields import SEED, check_field, differing, field_value, say
from asyncsim.plots.remarks import remark
from asyncsim.plots.scales import name_of, percent
from asyncsim.plots.style import SINGLE, axes, entry
from asyncsim.plots.tables import diverged, final, headline, only_ended
from asyncsim.records import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def heat_map(
    results: Sequence[Result],
    x: str = "workers",
    y: str | None = None,
    metric: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """A cell for each pair of values of two fields: the mean over seeds of the last value of ``metric`` (or of any number of the
    summary), written into it. Dark is high.

    Where all seeds diverged the cell is hatched; where some did, their count stands below the mean over the others. ``y`` is by
    default the one other field in which the runs differ. Raises ``UserError`` if cells would mix runs that differ in more.
    """
    runs = only_ended([results] if isinstance(results, Result) else results)
    y = y or _other(runs, x)
    check_field(runs, x)
    check_field(runs, y)
    metric = metric or headline(runs)
    cells: dict[tuple[Any, Any], list[Result]] = {}
    for run in runs:
        cells.setdefault((_key(field_value(run, x)), _key(field_value(run, y))), []).append(run)
    for at, here in cells.items():
        more = differing(here, SEED)
        if more:
            raise UserError(f"heat map: runs at {x} {at[0]}, {y} {at[1]} also differ in {', '.join(more)}; choose among them")
    across, up = _ordered(at[0] for at in cells), _ordered(at[1] for at in cells)
    whole = len(across), len(up)
    across, up = across[:MOST_CELLS], up[:MOST_CELLS]
    cells = {at: here for at, here in cells.items() if at[0] in across and at[1] in up}
    ax = axes(ax, max(SINGLE, 1.3 + 0.36 * len(across)), 1.1 + 0.28 * len(up))
    if whole != (len(across), len(up)):
        remark(ax, f"the first {len(across)} of {whole[0]} values along x, and {len(up)} of {whole[1]} along y")
    values = np.full((len(up), len(across)), np.nan)
    lost = np.zeros_like(values)
    for (a, b), here in cells.items():
        found = [np.nan if diverged(run) else final(run, metric) for run in here]
        finite = [value for value in found if np.isfinite(value)]
        place = up.index(b), across.index(a)
        values[place] = np.mean(finite) if finite else np.nan
        lost[place] = len(found) - len(finite)
    image = ax.imshow(values, origin="lower", aspect="auto", cmap="viridis_r", norm=_norm(values))
    for row, column in np.ndindex(values.shape):
        count = len(cells.get((across[column], up[row]), ()))
        _write(ax, image, row, column, count, int(lost[row, column]), float(values[row, column]), metric)
    ax.set_xticks(range(len(across)), [entry(say(value), 12) for value in across])
    ax.set_yticks(range(len(up)), [entry(say(value), 24) for value in up])
    ax.set_xlabel("workers N" if x in ("workers", "cluster.workers") else x)
    ax.set_ylabel("workers N" if y in ("workers", "cluster.workers") else y)
    ax.grid(False)
    if ax.figure is not None and np.isfinite(values).any():
        _scale(ax, image, metric)
    return ax


def _write(ax: Axes, image: Any, row: int, column: int, runs: int, lost: int, value: float, metric: str) -> None:
    """What stands in one cell: the mean of its runs, and how many of them diverged."""
    from matplotlib.patches import Rectangle

    if not runs:
        ax.text(column, row, "no run", ha="center", va="center", fontsize=6, color="#777777")
        return
    if not np.isfinite(value):
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="#EEEEEE", edgecolor="#999999", hatch="////", lw=0))
    text = _cell(value, metric) + (f"\n{lost}/{runs} div." if lost and np.isfinite(value) else "")
    box = None if np.isfinite(value) else {"facecolor": "white", "edgecolor": "none", "pad": 1.0, "alpha": 0.85}
    ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=_ink(image, value), bbox=box)


def _scale(ax: Axes, image: Any, metric: str) -> None:
    """The bar that says which colour is which value."""
    bar = ax.figure.colorbar(image, ax=ax, pad=0.02)
    bar.set_label(name_of(metric) + (" (%)" if percent(metric) else ""))
    bar.ax.minorticks_off()
    low, high = image.get_clim()
    spread = np.geomspace(low, high, 4) if low > 0 and high > 10 * low else np.linspace(low, high, 4)
    ticks = spread.tolist() if high > low else [low]
    bar.set_ticks(ticks, labels=[_cell(tick, metric) for tick in ticks])
    bar.outline.set_visible(False)


MOST_CELLS = 24
"""Cells along each side whose numbers can be read."""


def _other(runs: Sequence[Result], x: str) -> str:
    fields = [name for name in differing(runs) if name != x and not name.endswith(f".{x}")]
    if len(fields) != 1:
        raise UserError(f"heat map: which field is the other axis (y)? The runs differ in {', '.join(fields) or 'nothing else'}")
    return fields[0]


def _key(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else say(value)


def _ordered(values: Any) -> list[Any]:
    values = list(dict.fromkeys(values))
    return sorted(values) if all(isinstance(value, int | float) for value in values) else values


def _norm(values: np.ndarray) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    return LogNorm(low, high) if low > 0 and high > 10 * low else Normalize(low, high)


def _cell(value: float, metric: str) -> str:
    if not np.isfinite(value):
        return "diverged"
    return f"{100 * value:.3g}" if percent(metric) else f"{value:.3g}"


def _ink(image: Any, value: float) -> str:
    """White on dark cells."""
    if not np.isfinite(value):
        return "#333333"
    red, green, blue, _ = image.cmap(image.norm(value))
    return "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.5 else "black"
