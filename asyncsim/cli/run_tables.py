"""The numbers of one run as tables."""

from __future__ import annotations

from typing import Any

from asyncsim.cli.layout import Column, show_pairs, show_table
from asyncsim.records import Result
from asyncsim.units import show_dollars, show_joules, show_seconds


def summary_table(summary: dict[str, Any]) -> None:
    """Print the summary of one run, with one line for each number."""
    pairs = []
    for key, value in summary.items():
        if key in ("stages", "groups", "unknown", "stops_early"):  # beside the workers; in a sentence below
            continue
        if key == "workers" and "stages" in summary:
            groups = f"{summary['groups']:,} group{'s' if summary['groups'] > 1 else ''}"
            value = f"{value:,}: {groups} of {summary['stages']:,} stages"
        if key == "fingerprints":
            for name, digest in value.items():
                pairs.append((f"fingerprint, {name}", digest))
        else:
            pairs.append((key.replace("_", " "), _show(key, value)))
    show_pairs(pairs)


def _show(key: str, value: Any) -> str:
    if value is None:
        return "never" if key.endswith("_to_target") else "-"
    if key.startswith("cost"):
        return show_dollars(value)
    if key.startswith("energy"):
        return show_joules(value)
    if key in ("time", "time_to_target", "diverged_at_time", "wall_seconds"):
        return show_seconds(value)
    return f"{value:,.5g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)


def stages_table(result: Result) -> None:
    """Print one row for each stage of a run whose model is cut; nothing for replicas, or where no table was kept."""
    if "stages" not in result.summary or all(result.tables.get(name) is None for name in ("events", "updates")):
        return
    frame = result.stages
    names = ("stage", *frame.columns)
    rows = [[_stage_cell(name, value) for name, value in zip(names, row, strict=True)] for row in frame.itertuples()]
    show_table([Column(name.replace("_", " ")) for name in names], rows)


def _stage_cell(name: str, value: Any) -> str:
    if value != value:
        return "-"
    if name in ("busy", "waiting"):
        return f"{100 * value:.1f} %"
    if name == "first_backward":
        return show_seconds(value)
    return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"


def engine_table(timings: list[Any], best: Any, title: str) -> None:
    """Print the engines side by side for one variant. Those of one numeric family give the same bits."""
    titles = ("engine", "kernel", "us an update", "against serial", "trajectory")
    columns = [Column(title, "left" if title in ("engine", "kernel", "trajectory") else "right") for title in titles]
    serial = timings[0].seconds
    rows = []
    for timing in timings:
        name = ", ".join(str(value) if key == "kind" else f"{key} {value}" for key, value in timing.engine.items())
        per_update, times = f"{1e6 * timing.seconds:,.0f}", f"{serial / timing.seconds:.2f} x"
        rows.append((name + (" *" if timing is best else ""), timing.kernel, per_update, times, timing.trajectory[:12]))
    show_table(columns, rows, title)
