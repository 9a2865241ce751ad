"""Show a study as a table, and what it would run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from asyncsim.cli.layout import Column, show_table
from asyncsim.metrics import rising
from asyncsim.scenario import Study
from asyncsim.units import show_dollars, show_joules, show_seconds, time_unit

if TYPE_CHECKING:
    import pandas as pd


def comparison_table(frame: pd.DataFrame, study: Study) -> None:
    """Print a study with one row for each variant and point. Columns that no row has are left out."""
    target = study.scenarios[0].run.target
    goal = "" if target is None else f"{target.metric.replace('_', ' ')} {_goal(target)}"
    times = frame["time"].dropna() if "time" in frame else ()
    unit = time_unit(min(times)) if len(times) else "s"
    swept = ["workers"] if "cluster.workers" in study.fields else []
    columns: list[tuple[str, Any]] = [(field, lambda row, field=field: _cell(row[field])) for field in study.fields]
    if study.tune is not None:
        field = "chosen" if study.tune.others else study.tune.field
        columns += [("field", lambda row: str(row["field"]))] if study.tune.others else []
        columns.append((field, lambda row: "nothing chosen" if row.runs == 0 == row.failed else _cell(row[field])))
    columns += [] if swept else [("workers", lambda row: f"{row.workers:,}")]
    for metric in headline(study.scenarios[0].metrics):
        columns.append((metric.replace("_", " "), lambda row, metric=metric: _spread(row, metric)))
        if study.tune is not None and f"{metric}_common" in frame:
            title = f"{metric.replace('_', ' ')} at the common {study.tune.field if not study.tune.others else 'value'}"
            columns.append((title, lambda row, metric=metric: _spread(row, metric, "_common")))
    columns += [
        ("virtual time", lambda row: _seconds(row, unit)),
        ("virtual time to target", lambda row: _reached(row, unit)),
        *(
            (name + title, lambda row, column=column, show=show: _spent(row, column, show))
            for name, show in (("cost", show_dollars), ("energy", show_joules))
            for title, column in (("", name), (" to target", f"{name}_to_target"))
        ),
        ("staleness mean", lambda row: _number(row.get("staleness_mean"), ".1f")),
        ("staleness max", lambda row: _number(row.get("staleness_max"), ".0f")),
        ("penalty mean", lambda row: _number(row.get("penalty_mean"), ".1f")),
        ("speed-up to target", lambda row: _number(row.get("speedup_to_target"), ".2f")),
        ("speed-up samples/s", lambda row: _number(row.get("speedup_samples"), ".2f")),
        ("wall time", lambda row: "-" if row.runs == 0 else f"{row.wall_seconds:.1f} s"),
    ]
    rows = [[str(row.variant), *(show(row) for _, show in columns)] for _, row in frame.iterrows()]
    shown = [Column("variant", "left"), *(Column(title) for title, _ in columns)]
    show_table(shown, rows, study.name, _caption(study, goal), keys=1 + len(study.fields))


def cost_table(rows: list[tuple[str, Any, int]]) -> None:
    """Print what a study would run: the label, the scenario, and the number of gradients of each run."""
    titles = ("point", "workers", "method", "gradients a run")
    columns = [Column(title, "left" if title in ("point", "method") else "right") for title in titles]
    show_table(columns, [(label, f"{one.cluster.num_workers:,}", one.method.kind, f"{n:,}") for label, one, n in rows])


def headline(metrics: tuple[str, ...]) -> list[str]:
    """The metrics that get a column: the accuracies (or AUCs) where there are any, otherwise all."""
    return [metric for metric in metrics if rising(metric)] or list(metrics)


def _goal(target: Any) -> str:
    return f">= {target.at_least:g}" if target.at_least is not None else f"<= {target.at_most:g}"


def _caption(study: Study, goal: str) -> str:
    words = [f"target: {goal}"] if goal else []
    if study.baseline:
        said = study.baseline if isinstance(study.baseline, dict) else {}
        over = ", ".join(f"{field} = {value}" for field, value in said.items()) or study.baseline
        words.append(f"speed-ups in virtual time over {over}")
    return "; ".join(words)


def _cell(value: Any) -> str:
    return "-" if value is None or value != value else f"{value:.4g}" if isinstance(value, float) else str(value)


def _spread(row: Any, metric: str, which: str = "") -> str:
    value, sd, lost = row.get(f"{metric}{which}"), row.get(f"{metric}_sd{which}"), row.get(f"diverged{which}")
    diverged = f" ({lost} of {row.runs} diverged)" if lost else ""
    if value is None or math.isnan(value):
        return f"diverged, {lost} of {row.runs}" if lost else "-"
    if metric.endswith("accuracy"):
        return f"{100 * value:.1f}" + (f" ± {100 * sd:.1f}" if math.isfinite(sd) else "") + " %" + diverged
    return f"{value:.4g}" + (f" ± {sd:.2g}" if math.isfinite(sd) else "") + diverged


def _seconds(row: Any, unit: str) -> str:
    return "-" if row.runs == 0 else show_seconds(row.time, unit)


def _reached(row: Any, unit: str) -> str:
    if "reached" not in row.index or row.runs == 0:
        return "-"
    if not row.reached:
        return "never"
    partly = f" ({row.reached} of {row.runs})" if row.reached < row.runs else ""
    return show_seconds(row.time_to_target, unit) + partly


def _spent(row: Any, column: str, show: Any) -> str:
    if column not in row.index or row.runs == 0:
        return "-"
    return "never" if math.isnan(row[column]) else show(row[column])


def _number(value: Any, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, form)
