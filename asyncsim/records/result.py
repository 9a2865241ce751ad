"""The result of a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asyncsim.errors import UserError, nearest
from asyncsim.records.directory import TABLES, read_manifest, read_table
from asyncsim.records.rows import EVENT_KINDS, EVENTS, METRICS, OUTCOMES, UPDATES
from asyncsim.records.stages import stage_table

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Result:
    """One finished (or diverged, or interrupted) run.

    ``metrics``, ``updates`` and ``events`` are pandas tables; columns ``*_ns`` are nanoseconds of virtual time, and ``time``,
    ``start``, ``end`` beside them virtual seconds. ``fingerprints`` has ``timeline`` and, with real gradients, ``trajectory``.
    """

    summary: dict[str, Any]
    manifest: dict[str, Any]
    tables: dict[str, Arrays | None] = field(repr=False)
    parameters: np.ndarray | None = field(default=None, repr=False)  # (P,)
    path: Path | None = None

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def fingerprints(self) -> dict[str, str]:
        return self.manifest["fingerprints"]

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row for each evaluation: ``time``, ``version``, ``pushes``, ``samples``, ``lr``, and columns
        ``<split>_<metric>``."""
        return _frame(self.tables.get("metrics"), METRICS, {"time": "time_ns"})

    @cached_property
    def updates(self) -> pd.DataFrame:
        """One row for each push that arrived: staleness, gap, penalty, loss, and what became of it (``records.rows.UPDATES``)."""
        frame = _frame(self.tables.get("updates"), UPDATES, {"time": "time_ns"})
        frame["outcome"] = pd.Categorical.from_codes(frame["outcome"], OUTCOMES)
        return frame

    @cached_property
    def events(self) -> pd.DataFrame:
        """One row for each span of a worker's time (``records.rows.EVENTS``): a Gantt chart can be drawn from this table alone.
        """
        frame = _frame(self.tables.get("events"), EVENTS, {"start": "start_ns", "end": "end_ns"})
        frame["kind"] = pd.Categorical.from_codes(frame["kind"], EVENT_KINDS)
        return frame

    @cached_property
    def stages(self) -> pd.DataFrame:
        """One row for each stage (a run of replicas has one): staleness, shares of time, and the largest numbers of activations
        and versions that were held (``records.stages.stage_table``)."""
        tables = (self.tables.get(name) for name in ("events", "updates"))
        return stage_table(*tables, self.manifest, self.summary["workers"], self.summary["time"])

    def time_to(self, metric: str = "test_accuracy", at_least: float | None = None, at_most: float | None = None) -> float | None:
        """Virtual seconds until an evaluation first had ``metric`` at the level; None if none had."""
        if (at_least is None) == (at_most is None):
            raise UserError("time_to needs exactly one of at_least, at_most")
        if metric not in self.metrics:
            raise UserError(f"no metric {metric!r}{nearest(metric, self.metrics)}; there are: {', '.join(self.metrics)}")
        values = self.metrics[metric]
        reached = self.metrics["time"][values >= at_least if at_least is not None else values <= at_most]
        return None if reached.empty else float(reached.iloc[0])


def load_result(path: str | Path) -> Result:
    """Read a run folder. That of a process that died can be read, too; its tables end where they were written last."""
    path = Path(path)
    manifest = read_manifest(path)
    parameters = path / "parameters.npy"
    summary = path / "summary.json"
    try:
        numbers = json.loads(summary.read_text()) if summary.exists() else {"status": manifest["status"]}
        vector = np.load(parameters, allow_pickle=False) if parameters.exists() else None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None
    if not isinstance(numbers, dict):
        raise UserError(f"{summary}: is not what a run wrote")
    columns = {"metrics": METRICS, "updates": UPDATES, "events": EVENTS}
    return Result(numbers, manifest, {table: read_table(path, table, columns[table]) for table in TABLES}, vector, path)


def _frame(arrays: Arrays | None, columns: dict[str, str], seconds: dict[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame(arrays if arrays is not None else {name: np.empty(0, dtype) for name, dtype in columns.items()})
    for place, (name, source) in enumerate(seconds.items()):
        frame.insert(place, name, frame[source] / 1e9)
    return frame
