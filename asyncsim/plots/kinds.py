"""The kinds of figures by name: the function that draws each, the tables it reads, and the options it takes."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from asyncsim.errors import UserError, nearest
from asyncsim.plots.by_stage import by_stage
from asyncsim.plots.convergence import convergence
from asyncsim.plots.gantt import gantt
from asyncsim.plots.heat_map import heat_map
from asyncsim.plots.over_time import gap_distribution, gap_over_time, penalty_over_time, staleness_over_time
from asyncsim.plots.scaling import cost_to_target, energy_to_target, final_metric, speedup, time_to_target
from asyncsim.plots.schedule import schedule
from asyncsim.plots.shares import time_shares
from asyncsim.plots.staleness import staleness_histogram
from asyncsim.plots.style import SINGLE, in_style
from asyncsim.plots.theory import over_convergence, over_final, over_staleness
from asyncsim.plots.timelines import gantts, schedules
from asyncsim.records import Result
from asyncsim.records.directory import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Draw = TypeVar("Draw", bound="Callable[..., Any]")


class Kind(NamedTuple):
    """One kind of figure.

    ``draw`` draws it, ``tables`` are those that it reads, and ``text`` describes it. ``options`` names those of ``metric,
    against, x, y, level, of, baseline, start, end, batches`` that ``draw`` takes; the option ``by`` is not passed on, but
    splits the runs before they are drawn. ``theory`` draws over the finished axes what formulas predict; it takes the axes,
    the results, and the same options.
    """

    draw: Callable[..., Any]
    tables: tuple[str, ...]
    options: tuple[str, ...]
    text: str
    theory: Callable[..., None] | None = None


KINDS: dict[str, Kind] = {
    "convergence": Kind(
        convergence, ("metrics",), ("metric", "against"), "a metric against time, work or cost", over_convergence
    ),
    "final": Kind(final_metric, (), ("metric", "x"), "the metric at the end against worker counts", over_final),
    "time_to_target": Kind(time_to_target, (), ("metric", "level", "x"), "virtual time to a target against worker counts"),
    "cost_to_target": Kind(cost_to_target, (), ("metric", "level", "x"), "dollars to a target against worker counts"),
    "energy_to_target": Kind(energy_to_target, (), ("metric", "level", "x"), "joules to a target against worker counts"),
    "speedup": Kind(speedup, (), ("of", "metric", "level", "baseline"), "speed-up against worker counts"),
    "heat_map": Kind(heat_map, (), ("metric", "x", "y"), "a metric over two fields"),
    "staleness": Kind(staleness_histogram, ("updates",), ("by",), "distribution of staleness", over_staleness),
    "staleness_over_time": Kind(staleness_over_time, ("updates",), ("against", "by"), "staleness as the run goes on"),
    "gap": Kind(gap_distribution, ("updates",), (), "distribution of the gap"),
    "gap_over_time": Kind(gap_over_time, ("updates",), ("against",), "the gap as the run goes on"),
    "penalty_over_time": Kind(penalty_over_time, ("updates",), ("against",), "the penalty as the run goes on"),
    "gantt": Kind(gantt, ("events",), (), "who did what when, of the first three different timelines"),
    "schedule": Kind(
        schedule, ("events",), ("start", "end", "batches"), "which stage forwards and backwards which batch when"
    ),
    "time_shares": Kind(time_shares, (), (), "utilisation and idle time, from the summaries"),
}
GROUP = "asyncsim.plot_kind"
"""Entry points of packages that bring kinds of their own: each names a function with ``register`` above it."""
MOST_INCHES = 20.0
"""Of a figure, each way: 4,000 pixels of a PNG file."""
FORMATS = ("png", "pdf", "svg")


def register(
    name: str, text: str, tables: Sequence[str] = (), options: Sequence[str] = (), theory: Callable[..., None] | None = None
) -> Callable[[Draw], Draw]:
    """Decorator of a function ``draw(results, labels=None, ..., ax=None) -> Axes``, which becomes the kind ``name``.

    ``text`` says in a line what it shows; ``tables`` are read with the runs (metrics, updates, events); ``options`` and
    ``theory`` are as in ``Kind``. Raises ``UserError`` for a name that another function has.
    """

    def add(draw: Draw) -> Draw:
        known = KINDS.get(name)
        if known is not None and (known.draw.__module__, known.draw.__qualname__) != (draw.__module__, draw.__qualname__):
            raise UserError(f"plot kind {name!r} is already drawn by {known.draw.__module__}.{known.draw.__qualname__}")
        KINDS[name] = Kind(draw, tuple(tables), tuple(options), text, theory)
        return draw

    return add


def kind_of(name: str) -> Kind:
    """A kind by its name, written with ``_`` or ``-``. Raises ``UserError``."""
    if name.replace("-", "_") not in KINDS:
        for point in entry_points(group=GROUP):
            try:
                point.load()
            except Exception as error:  # a broken package must be named, whatever it raises
                raise UserError(f"entry point {GROUP}:{point.name} ({point.value}) cannot be loaded: {error}") from error
    kind = KINDS.get(name.replace("-", "_"))
    if kind is None:
        raise UserError(f"kind: {name!r} is unknown{nearest(name.replace('-', '_'), KINDS)}; there are: {', '.join(KINDS)}")
    return kind


def tables_for(name: str, level: float | None = None, theory: bool = False) -> tuple[str, ...]:
    """The tables that have to be read for a figure. A ``level`` other than the scenario's target is looked up in the metrics;
    ``theory`` also needs the updates."""
    tables = ("metrics",) if level is not None else kind_of(name).tables
    return tuple(dict.fromkeys((*tables, "updates"))) if theory else tables


def check_theory(name: str) -> Callable[..., None]:
    """What draws theory over a kind. Raises ``UserError`` where there is nothing."""
    over = kind_of(name).theory
    if over is None:
        known = ", ".join(each for each, kind in KINDS.items() if kind.theory is not None)
        raise UserError(f"kind {name}: there is no theory to draw over it; there is for {known}")
    return over


def figure(
    name: str, results: Sequence[Result], labels: Sequence[str] | str | None = None, width: float | None = None,
    theory: bool = False, **options: Any,
) -> Figure:  # fmt: skip
    """A whole figure of one kind, at the width of one column (several Gantt charts and schedules: of two), not yet written.

    ``theory`` draws what formulas predict over it (`asyncsim.plots.theory`). The caller closes it. Raises ``UserError`` for
    options that the kind has not, and what the kind itself raises.
    """
    import matplotlib.pyplot as plt

    kind = kind_of(name)
    options = {key: value for key, value in options.items() if value is not None}
    unknown = [key for key in options if key not in kind.options]
    if unknown:
        can = ", ".join(kind.options) or "no options"
        raise UserError(f"kind {name}: takes no {', '.join(unknown)} (it takes {can})")
    over = check_theory(name) if theory else None
    before = plt.get_fignums()
    try:
        with in_style():
            if kind.draw is gantt:
                return gantts(results, labels, width)
            if kind.draw is schedule:
                return schedules(results, labels, width, options)
            if theory and options.get("by") is not None:
                raise UserError("theory says nothing about the stages of a pipeline: leave out `by`, or `theory`")
            if options.pop("by", None) is not None:
                results, labels = by_stage(results, labels)
            if kind.draw is not heat_map:
                options["labels"] = labels
            ax = kind.draw(results, **options)
            drawn = ax.figure
            if over is not None:
                over(ax, results, **options)
            if width is not None:
                drawn.set_size_inches(width, drawn.get_size_inches()[1] * (width / SINGLE) ** 0.35)
            return drawn
    except BaseException:
        for number in set(plt.get_fignums()) - set(before):
            plt.close(number)
        raise


def write_figure(drawn: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, PDF or SVG, by the ending of ``path``, and close it. The same figure gives the same bytes.

    Raises ``UserError`` (another ending, a folder that is not there, a full disk).
    """
    path = Path(path)
    try:
        check_format(path)
    except UserError:
        _close(drawn)
        raise
    write_atomically(path, figure_bytes(drawn, path.suffix.lower().removeprefix(".")))
    return path


def figure_bytes(drawn: Figure, form: str) -> bytes:
    """A figure in one of ``FORMATS``, without a date, and closed."""

    buffer = io.BytesIO()
    try:
        with in_style():
            dated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(form)
            drawn.savefig(buffer, format=form, metadata=dated, bbox_inches=_page(drawn))
    finally:
        _close(drawn)
    return buffer.getvalue()


def _page(drawn: Figure) -> Any:
    """What is written of a figure: all that is drawn, with a narrow margin, and never more than ``MOST_INCHES`` each way. A
    figure whose labels leave no room for its axes grows until they do."""
    from matplotlib.transforms import Bbox

    width, height = (min(MOST_INCHES, size) for size in drawn.get_size_inches())
    while True:
        drawn.set_size_inches(width, height)
        try:
            with warnings.catch_warnings():
                if min(width, height) < MOST_INCHES:
                    warnings.filterwarnings("error", message="constrained_layout not applied")
                drawn.draw_without_rendering()
            break
        except UserWarning:
            width, height = (min(MOST_INCHES, 1.25 * size) for size in (width, height))
    found = drawn.get_tightbbox().padded(0.1)
    room = (MOST_INCHES - width) / 2, (MOST_INCHES - height) / 2
    most = Bbox([[-room[0], -room[1]], [width + room[0], height + room[1]]])
    return Bbox.intersection(found, most) or most


def _close(drawn: Figure) -> None:
    import matplotlib.pyplot as plt

    plt.close(drawn)


def check_format(path: Path) -> None:
    """Raise ``UserError`` for an ending that is none of the formats, or for a folder that does not exist."""
    if path.suffix.lower().removeprefix(".") not in FORMATS:
        raise UserError(f"{path}: name a file that ends in {', '.join(f'.{form}' for form in FORMATS)}")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")


def headless() -> None:
    """Draw without a display, unless a notebook or the user has chosen a backend."""
    import matplotlib

    matplotlib.use("Agg", force=False)
