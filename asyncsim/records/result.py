"""The result of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asyncsim.errors import UserError, nearest
from asyncsim.numpyfiles import read_npy
from asyncsim.records.directory import TABLES
from asyncsim.records.reading import read_manifest, read_summary, read_table
from asyncsim.records.rows import EVENT_KINDS, EVENTS, METRICS, OUTCOMES, UPDATES
from asyncsim.records.shown import as_html
from asyncsim.records.stage_tables import stage_table
from asyncsim.userfiles import MEGABYTE

if TYPE_CHECKING:
    import pandas as pd

Arrays = dict[str, np.ndarray]
COLUMNS = {"metrics": METRICS, "updates": UPDATES, "events": EVENTS}
MOST_PARAMETERS = 100_000 * MEGABYTE


@dataclass(frozen=True, repr=False)
class Result:
    """One finished (or diverged, or interrupted) run.

    ``metrics``, ``updates`` and ``events`` are pandas tables; columns ``*_ns`` are nanoseconds of virtual time, and ``time``,
    ``start``, ``end`` beside them virtual seconds. ``fingerprints`` has ``timeline`` and, with real gradients, ``trajectory``.
    """

    summary: dict[str, Any]
    manifest: dict[str, Any]
    tables: dict[str, Arrays | None]
    parameters: np.ndarray | None = None  # (P,)
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
        """One row a push that arrived: staleness, gap, penalty, loss and what became of it (``records.rows.UPDATES``)."""
        import pandas as pd

        frame = _frame(self.tables.get("updates"), UPDATES, {"time": "time_ns"})
        frame["outcome"] = pd.Categorical.from_codes(frame["outcome"].to_numpy(np.int64), pd.Index(OUTCOMES))
        return frame

    @cached_property
    def events(self) -> pd.DataFrame:
        """One row a span of a worker's time (``records.rows.EVENTS``): a Gantt chart can be drawn from it alone."""
        import pandas as pd

        frame = _frame(self.tables.get("events"), EVENTS, {"start": "start_ns", "end": "end_ns"})
        frame["kind"] = pd.Categorical.from_codes(frame["kind"].to_numpy(np.int64), pd.Index(EVENT_KINDS))
        return frame

    @cached_property
    def stages(self) -> pd.DataFrame:
        """One row for each stage (a run of replicas has one): staleness, shares of time, and the largest numbers of activations
        and versions that were held (``records.stage_tables.stage_table``)."""
        events, updates = self.tables.get("events"), self.tables.get("updates")
        return stage_table(events, updates, self.manifest, self.summary["workers"], self.summary["time"])

    def _repr_html_(self) -> str:
        return as_html(self.name, self.manifest["status"], self.summary, self.metrics)

    def __repr__(self) -> str:
        told = f"{self.summary.get('method', '')}, {self.manifest['status']}, {self.summary.get('updates', 0):,} updates"
        return f"<Result {self.name!r}: {told}>"

    def time_to(self, metric: str = "test_accuracy", at_least: float | None = None, at_most: float | None = None) -> float | None:
        """Virtual seconds until an evaluation first had ``metric`` at the level; None if none had."""
        if (at_least is None) == (at_most is None):
            raise UserError("time_to needs exactly one of at_least, at_most")
        known = [str(column) for column in self.metrics]
        if metric not in known:
            raise UserError(f"no metric {metric!r}{nearest(metric, known)}; there are: {', '.join(known)}")
        values = self.metrics[metric]
        reached = self.metrics["time"][values >= at_least if at_least is not None else values <= at_most]
        return None if reached.empty else float(reached.iloc[0])


def load_result(path: str | Path, tables: Iterable[str] = TABLES, parameters: bool = True) -> Result:
    """Read a run folder, also one whose process died (then the tables end where it had last written).

    ``tables`` and ``parameters`` say what of it: manifest and summary are always read. Raises ``UserError``.
    """
    path = Path(path)
    manifest = read_manifest(path)
    file = path / "parameters.npy"
    vector = read_npy(file, MOST_PARAMETERS) if parameters and file.exists() else None
    found = {table: read_table(path, table, COLUMNS[table]) for table in tables}
    return Result(read_summary(path, manifest), manifest, found, vector, path)


def _frame(arrays: Arrays | None, columns: dict[str, str], seconds: dict[str, str]) -> pd.DataFrame:
    import pandas as pd

    frame = pd.DataFrame(arrays if arrays is not None else {name: np.empty(0, dtype) for name, dtype in columns.items()})
    for place, (name, source) in enumerate(seconds.items()):
        frame.insert(place, name, frame[source] / 1e9)
    return frame
