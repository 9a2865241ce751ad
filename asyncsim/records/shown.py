"""A run as HTML, as notebooks show the last value of a cell: its summary, and its first metric over virtual time."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

NUMBERS = ("updates", "workers", "time", "samples_per_second", "staleness_mean", "staleness_max", "penalty_mean", "utilisation",
           "cost")  # fmt: skip
"""Numbers of the summary that are shown, in this order, after the metrics."""
LABELS = {"time": "virtual seconds"}
WIDTH, HEIGHT, EDGE = 220, 60, 3
"""Of the curve, in pixels."""


def as_html(name: str, status: str, summary: dict[str, Any], evaluations: pd.DataFrame) -> str:
    """A heading, a table of numbers, and a curve where there are two evaluations at least. What is not finite is left out."""
    metrics = [key for key in summary if key.startswith(("test_", "validation_", "train_"))]
    rows = "".join(
        f"<tr><th style='text-align:left'>{escape(LABELS.get(key, key.replace('_', ' ')))}</th>"
        f"<td>{_shown(summary[key])}</td></tr>"
        for key in (*metrics, *NUMBERS)
        if summary.get(key) is not None and math.isfinite(summary[key])
    )
    heading = f"<b>{escape(name)}</b>: {escape(str(summary.get('method', '')))}, {escape(status)}"
    return f"<div>{heading}<table>{rows}</table>{_curve(evaluations)}</div>"


def _shown(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _curve(frame: pd.DataFrame) -> str:
    """The first metric that is not a loss, else the loss, as a line in SVG."""
    names = [str(name) for name in frame if str(name).startswith("test_")]
    name = next((name for name in names if not name.endswith("loss")), names[0] if names else None)
    if name is None:
        return ""
    points = [(x, y) for x, y in zip(frame["time"], frame[name], strict=True) if math.isfinite(y)]
    if len(points) < 2:
        return ""
    (left, right), (low, high) = ((min(each), max(each)) for each in zip(*points, strict=True))
    across, up = (WIDTH - 2 * EDGE) / ((right - left) or 1), (HEIGHT - 2 * EDGE) / ((high - low) or 1)
    line = " ".join(f"{EDGE + (x - left) * across:.1f},{HEIGHT - EDGE - (y - low) * up:.1f}" for x, y in points)
    said = f"{name.replace('_', ' ')}: {low:.4g} to {high:.4g} in {right - left:,.4g} virtual seconds"
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img'><title>{escape(said)}</title>"
        f"<polyline points='{line}' fill='none' stroke='#0072B2' stroke-width='1.5'/></svg><br><small>{escape(said)}</small>"
    )
