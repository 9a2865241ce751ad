"""Look up what a figure needs from a run; where it is missing, the error says why."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from asyncsim.errors import UserError, nearest
from asyncsim.records import Result
from asyncsim.records.rows import COSTS, METRICS


def table(run: Result, name: str) -> pd.DataFrame:
    """A table of a run, which must have rows. Raises ``UserError`` if it has none."""
    frame = getattr(run, name)
    if len(frame):
        return frame
    if run.tables.get(name) is None:
        why = f"it was not recorded (`records.{name}: true` in the scenario keeps it)" if name != "metrics" else "it was not kept"
    else:
        why = "it has no rows"
    raise UserError(f"run {called(run)}: there is no table {name} to draw: {why}")


def called(run: Result) -> str:
    return str(run.path) if run.path is not None else run.name


def task_metrics(run: Result) -> list[str]:
    """The metrics that the task has, such as ``test_accuracy``, from the tables or else from the summary."""
    if run.tables.get("metrics") is not None:
        return [str(name) for name in run.metrics if name not in {*METRICS, *COSTS, "time"}]
    task = run.manifest.get("scenario", {}).get("evaluate", {}).get("splits") or ("test", "train", "validation")
    return [name for name in run.summary if name.startswith(tuple(f"{split}_" for split in task))]


def headline(runs: Iterable[Result]) -> str:
    """The metric to draw: the first accuracy there is, as an error, otherwise the last metric. Raises ``UserError`` if there is
    none."""
    names = list(dict.fromkeys(name for run in runs for name in task_metrics(run)))
    if not names:
        raise UserError("these runs have no metrics (`plan` simulates the timeline alone; `run` evaluates the task)")
    accuracies = [name for name in names if name.endswith("_accuracy")]
    return accuracies[0].removesuffix("_accuracy") + "_error" if accuracies else names[-1]


def curve(run: Result, metric: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """The x and y values of a metric where it is finite. ``<split>_error`` is one minus the accuracy."""
    frame = table(run, "metrics")
    if column not in frame:
        raise UserError(f"run {called(run)}: has no {column}; prices in the scenario (`cluster.instance`) give it one")
    values = _column(frame, metric, run)
    finite = np.isfinite(values)
    return frame[column].to_numpy()[finite].astype(float), values[finite]


def _column(frame: pd.DataFrame, metric: str, run: Result) -> np.ndarray:
    accuracy = metric.removesuffix("_error") + "_accuracy"
    if metric in frame:
        return frame[metric].to_numpy(dtype=float)
    if metric.endswith("_error") and accuracy in frame:
        return 1.0 - frame[accuracy].to_numpy(dtype=float)
    raise _unknown(metric, task_metrics(run), run)


def final(run: Result, metric: str) -> float:
    """A number of the summary, the last value of a metric among them; NaN if the run ended without (as diverged ones do)."""
    accuracy = metric.removesuffix("_error") + "_accuracy"
    if metric not in run.summary and metric.endswith("_error") and accuracy in run.summary:
        value = run.summary[accuracy]
        return np.nan if value is None else 1.0 - value
    if metric not in run.summary and ended(run):
        raise _unknown(metric, [*task_metrics(run), *(name for name in run.summary if name not in task_metrics(run))], run)
    value = run.summary.get(metric)
    if isinstance(value, str | dict):
        raise UserError(f"{metric!r} is no number (run {called(run)} has {value!r})")
    return np.nan if value is None else float(value)


def ended(run: Result) -> bool:
    """Does the run have a summary? One that still goes on, that failed, or that was killed has none."""
    return "updates" in run.summary


def diverged(run: Result) -> bool:
    return run.summary.get("status") == "diverged"


def only_ended(runs: Iterable[Result]) -> list[Result]:
    """The runs that have a summary. Raises ``UserError`` if none has."""
    runs = list(runs)
    whole = [run for run in runs if ended(run)]
    if not whole:
        raise UserError(f"no run has ended: {', '.join(called(run) for run in runs[:3])}{' ...' if len(runs) > 3 else ''}")
    return whole


def _unknown(metric: str, known: list[str], run: Result) -> UserError:
    errors = [name.removesuffix("_accuracy") + "_error" for name in known if name.endswith("_accuracy")]
    names = [*errors, *known]
    return UserError(f"run {called(run)}: no metric {metric!r}{nearest(metric, names)}; there are: {', '.join(names) or 'none'}")
