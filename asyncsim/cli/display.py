"""What a person sees of runs: a live display on a terminal, plain lines elsewhere, and tables."""

from __future__ import annotations

import math
import time
from typing import Any

import pandas as pd
from rich import box
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from asyncsim.cli.console import Console
from asyncsim.records import Result
from asyncsim.run import Moment
from asyncsim.scenario import Study
from asyncsim.sweep.runner import Report
from asyncsim.units import show_dollars, show_joules, show_seconds, time_unit


class Display:
    """Shows the reports of a study while it goes on.

    On a terminal: one bar for all runs, and one for each run that is going on, with updates per second, virtual time and
    time left. Elsewhere: one line when a run ends. With ``quiet``: errors only, on stderr.
    """

    def __init__(self, study: Study, quiet: bool = False) -> None:
        self.study = study
        self.quiet = quiet
        self.console = Console(stderr=True)
        self.live = self.console.is_terminal and not quiet
        self._started: dict[int, float] = {}
        self._bars: dict[int, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:<28}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[detail]}"), TimeRemainingColumn(), console=self.console, transient=True,
        )  # fmt: skip
        self._total: TaskID | None = None
        self.finished = 0
        self.errors: dict[str, list[str]] = {}
        """Errors, and the runs for which they are still to be printed: if all runs fail alike, that is said once, by others."""

    def __enter__(self) -> Display:
        if self.live:
            self._progress.start()
            if len(self.study) > 1:
                self._total = self._progress.add_task(self.study.name, total=len(self.study), detail=f"0/{len(self.study)} runs")
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._progress.stop()

    def __call__(self, report: Report) -> None:
        if report.moment is not None:
            self._moment(report.index, report.moment)
        elif report.waiting:
            if not self.quiet:
                self._say(f"{self._name(report.index)}: another process is doing this run; waiting for it")
        elif report.error is not None:
            self._close(report.index)
            self.errors.setdefault(report.error, []).append(self._name(report.index))
            if self.finished:
                self.tell_errors()
        elif report.result is not None:
            self._close(report.index)
            if not self.quiet:
                self._say(self._ended(report))
            self.finished += 1
            self.tell_errors()

    def tell_errors(self) -> None:
        """Print the errors that were not printed yet."""
        for error, names in self.errors.items():
            for name in names:
                self._say(f"{name}: failed: {error}", style="red")
            names.clear()

    def _say(self, text: str, style: str | None = None) -> None:
        self.console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    def _name(self, index: int) -> str:
        scenario = self.study.scenarios[index]
        return f"{self.study.labels[index]}, seed {scenario.seed}" if self.study.several else scenario.name

    def _moment(self, index: int, moment: Moment) -> None:
        if not self.live:
            return
        started = self._started.setdefault(index, time.monotonic())
        if index not in self._bars:
            self._bars[index] = self._progress.add_task(self._name(index), total=1.0, detail="")
        rate = moment.updates / max(1e-9, time.monotonic() - started)
        words = [f"{rate:,.0f} updates/s", f"virtual {show_seconds(moment.time)}"]
        words += [
            f"{name} {value:.3f}" for name, value in moment.metrics.items() if name.endswith("accuracy") and math.isfinite(value)
        ]
        words += ["diverged"] if moment.diverged else []
        self._progress.update(self._bars[index], completed=moment.done, detail="  ".join(words))

    def _close(self, index: int) -> None:
        if index in self._bars:
            self._progress.remove_task(self._bars.pop(index))
        if self._total is not None:
            self._progress.advance(self._total)
            done = int(self._progress.tasks[0].completed)
            self._progress.update(self._total, detail=f"{done}/{len(self.study)} runs")

    def _ended(self, report: Report) -> str:
        summary = report.result.summary
        words = [f"{summary['updates']:,} updates", f"virtual {show_seconds(summary['time'])}"]
        words += [f"{key} {summary[key]:.4f}" for key in summary if key.endswith("accuracy") and summary[key] is not None]
        if summary["status"] == "diverged":
            words.append(f"diverged at update {summary['diverged_at_update']:,}")
        words.append("reused" if report.reused else f"{summary['wall_seconds']:.1f} s")
        return f"{self._name(report.index)}: {', '.join(words)}"


def summary_table(summary: dict[str, Any]) -> None:
    """Print the summary of one run, with one line for each number."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in summary.items():
        if key in ("stages", "groups"):  # beside the workers
            continue
        if key == "workers" and "stages" in summary:
            groups = f"{summary['groups']:,} group{'s' if summary['groups'] > 1 else ''}"
            value = f"{value:,}: {groups} of {summary['stages']:,} stages"
        if key == "fingerprints":
            for name, digest in value.items():
                table.add_row(f"fingerprint, {name}", digest)
        else:
            table.add_row(key.replace("_", " "), _show(key, value))
    Console().print(table, highlight=False)


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
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("stage", *frame.columns):
        table.add_column(title.replace("_", "\n", 1).replace("_", " "), justify="right", no_wrap=True)
    for row in frame.itertuples():
        table.add_row(*(_stage_cell(name, value) for name, value in zip(("stage", *frame.columns), row, strict=True)))
    Console().print(table, highlight=False)


def _stage_cell(name: str, value: Any) -> str:
    if value != value:
        return "-"
    if name in ("busy", "waiting"):
        return f"{100 * value:.1f} %"
    if name == "first_backward":
        return show_seconds(value)
    return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}"


def engine_table(timings: list[Any], best: Any) -> None:
    """Print the engines side by side. Those of one numeric family give the same bits."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for title in ("engine", "kernel", "us an update", "against serial", "trajectory"):
        table.add_column(title, justify="left" if title in ("engine", "kernel", "trajectory") else "right", no_wrap=True)
    serial = timings[0].seconds
    for timing in timings:
        name = ", ".join(str(value) if key == "kind" else f"{key} {value}" for key, value in timing.engine.items())
        mark = " *" if timing is best else ""
        cells = (
            name + mark,
            timing.kernel,
            f"{1e6 * timing.seconds:,.0f}",
            f"{serial / timing.seconds:.2f} x",
            timing.trajectory[:12],
        )
        table.add_row(*cells)
    Console().print(table, highlight=False)


def comparison_table(frame: pd.DataFrame, study: Study) -> None:
    """Print a study with one row for each variant and point. Columns that no row has are left out."""
    target = study.scenarios[0].run.target
    goal = "" if target is None else f"{target.metric.replace('_', ' ')} {_goal(target)}"
    table = Table(title=study.name, caption=_caption(study, goal), pad_edge=False, header_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("variant", no_wrap=True)
    unit = time_unit(frame["time"].min())
    swept = ["workers"] if "cluster.workers" in study.fields else []
    columns: list[tuple[str, Any]] = [
        (field.replace(".", "\n"), lambda row, field=field: _cell(row[field]))
        for field in (*study.fields, *(() if study.tune is None else (study.tune.field,)))
    ]
    columns += [] if swept else [("workers", lambda row: f"{row.workers:,}")]
    for metric in headline(study.scenarios[0].metrics):
        columns.append((metric.replace("_", "\n", 1).replace("_", " "), lambda row, metric=metric: _spread(row, metric)))
        if f"{metric}_common" in frame:
            title = f"{metric.replace('_', ' ')}\nat the common\n{study.tune.field}"
            columns.append((title, lambda row, metric=metric: _spread(row, metric, "_common")))
    columns += [
        ("virtual\ntime", lambda row: show_seconds(row.time, unit)),
        ("virtual time\nto target", lambda row: _reached(row, unit)),
        *(
            (f"{name}{title}", lambda row, column=column, show=show: _spent(row, column, show))
            for name, show in (("cost", show_dollars), ("energy", show_joules))
            for title, column in (("", name), ("\nto target", f"{name}_to_target"))
        ),
        ("staleness\nmean", lambda row: _number(row.staleness_mean, ".1f")),
        ("staleness\nmax", lambda row: _number(row.staleness_max, ".0f")),
        ("penalty\nmean", lambda row: _number(row.penalty_mean, ".1f")),
        ("speed-up\nto target", lambda row: _number(row.get("speedup_to_target"), ".2f")),
        ("speed-up\nsamples/s", lambda row: _number(row.get("speedup_samples"), ".2f")),
        ("wall\ntime", lambda row: f"{row.wall_seconds:.1f} s"),
    ]
    cells = {title: [show(row) for _, row in frame.iterrows()] for title, show in columns}
    shown = {title: values for title, values in cells.items() if any(value != "-" for value in values)}
    for title in shown:
        table.add_column(title, justify="right", no_wrap=True)
    for index, variant in enumerate(frame["variant"]):
        table.add_row(variant, *(values[index] for values in shown.values()))
    Console().print(table, highlight=False)


def cost_table(rows: list[tuple[str, Any, int]]) -> None:
    """What a study would run: the label, the scenario, and the number of gradients of each run."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    table.add_column("point", no_wrap=True)
    for title in ("workers", "method", "gradients a run"):
        table.add_column(title, justify="left" if title == "method" else "right", no_wrap=True)
    for label, scenario, gradients in rows:
        table.add_row(label, f"{scenario.cluster.num_workers:,}", scenario.method.kind, f"{gradients:,}")
    Console().print(table, highlight=False, markup=False)


def headline(metrics: tuple[str, ...]) -> list[str]:
    """The metrics that get a column: the accuracies where there are any, otherwise all."""
    return [metric for metric in metrics if metric.endswith("accuracy")] or list(metrics)


def _goal(target: Any) -> str:
    return f">= {target.at_least:g}" if target.at_least is not None else f"<= {target.at_most:g}"


def _caption(study: Study, goal: str) -> str | None:
    words = [f"target: {goal}"] if goal else []
    if study.baseline:
        said = study.baseline if isinstance(study.baseline, dict) else {}
        over = ", ".join(f"{field} = {value}" for field, value in said.items()) or study.baseline
        words.append(f"speed-ups in virtual time over {over}")
    return "; ".join(words) or None


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


def _reached(row: Any, unit: str) -> str:
    if "reached" not in row.index:
        return "-"
    if not row.reached:
        return "never"
    partly = f" ({row.reached} of {row.runs})" if row.reached < row.runs else ""
    return show_seconds(row.time_to_target, unit) + partly


def _spent(row: Any, column: str, show: Any) -> str:
    if column not in row.index:
        return "-"
    return "never" if math.isnan(row[column]) else show(row[column])


def _number(value: Any, form: str) -> str:
    return "-" if value is None or not math.isfinite(value) else format(value, form)
