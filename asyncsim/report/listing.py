"""List the runs in a folder, from manifests and summaries alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from asyncsim.plots.fields import method_of, workers_of
from asyncsim.plots.runs import find_runs, read_runs, status_of
from asyncsim.plots.tables import final, headline
from asyncsim.records import Result


def list_runs(folders: Sequence[str | Path]) -> tuple[list[dict[str, Any]], dict[Path, str]]:
    """A row a run (name, method, workers, seed, status, updates, metric and its last value, virtual time, age in wall seconds,
    folder), and what is wrong with the folders that have a manifest but can't be read. ``UserError`` where there is no run.
    """
    runs, broken = read_runs(find_runs(folders))
    now = time.time()
    return [row(run) | {"age": now - _written(run.path), "path": str(run.path)} for run in runs if run.path is not None], broken


def row(run: Result) -> dict[str, Any]:
    """One run in a few numbers. A number that it does not have, or not yet, is None."""
    scenario = run.manifest["scenario"]
    metric = metric_of(run)
    value = final(run, metric) if metric is not None else float("nan")
    return {
        "name": run.name, "method": method_of(run), "workers": workers_of(run),
        "seed": run.summary.get("seed", scenario.get("seed")), "status": status_of(run), "updates": run.summary.get("updates"),
        "metric": metric, "value": value if value == value else None, "time": run.summary.get("time"),
    }  # fmt: skip


def metric_of(run: Result) -> str | None:
    """The metric that ``plots.headline`` would draw; None for a run without metrics."""
    names = [name for name, value in run.summary.items() if isinstance(value, int | float | None) and name.startswith(_SPLITS)]
    return headline([Result(dict.fromkeys(names), run.manifest, {})]) if names else None


_SPLITS = ("test_", "train_", "validation_")


def _written(path: Path) -> float:
    """When the manifest was last written."""
    return (path / "manifest.json").stat().st_mtime
