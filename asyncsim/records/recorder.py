"""The recorder collects the rows of a run. If the run has a folder, it keeps the files there nearly up to date."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import numpy as np

from asyncsim.records.directory import TABLES, RunDirectory
from asyncsim.records.rows import EVENTS, METRICS, SpanRow, row_type, with_notes
from asyncsim.records.tables import SEGMENT_ROWS, Table, canonical, joined

WRITE_EVERY = 5.0  # wall seconds between two looks at the disk; has no influence on any recorded value
PART_ROWS = 65_536  # sealed rows that are written to disk earlier than that


class Recorder:
    """An observer of the run that fills three tables. ``updates`` and ``events`` may be hashed only (``keep``) and cost no memory
    then."""

    def __init__(
        self,
        metrics: tuple[str, ...],
        directory: RunDirectory | None = None,
        updates: bool = True,
        events: bool = True,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.metrics = Table({**METRICS, **dict.fromkeys(metrics, "float64")})
        self.updates = Table(with_notes(notes), keep=updates)
        self.events = Table(EVENTS, hashed=("kind", "worker", "step", "start_ns", "end_ns", "complete"), keep=events)
        self.span, self.arrival, self.evaluation = self.events.append, self.updates.append, self.metrics.append
        self.row_types = {
            "span": SpanRow,
            "arrival": row_type("UpdateRow", self.updates.columns),
            "evaluation": row_type("MetricRow", self.metrics.columns),
        }
        """The named tuples of the three tables, by the event of which a row tells."""
        self.directory = directory
        self.resumable = False
        """True: rows that cannot be had again by a replay go to disk even if they are not kept."""
        self._written = time.monotonic()
        self._unwritten: dict[str, list[dict[str, np.ndarray]]] = {name: [] for name in TABLES}  # sealed segments

    def flush(self, last: bool = False, everything: bool = False, to_disk: bool = True) -> None:
        """Seal full segments; now and then, and with ``everything``, all rows, and write what is sealed to disk (``to_disk``
        False: it is there already). Called at moments of the simulation's choice.

        It is called between events of the simulation. A row whose loss is not known yet waits for a later call, and so do
        all rows behind it; so how fast the gradients are computed shows in no value. ``last`` seals everything at the end of
        a run.
        """
        directory = self.directory if to_disk else None
        due = everything or (directory is not None and time.monotonic() - self._written > WRITE_EVERY)
        for name in TABLES:
            table: Table = getattr(self, name)
            rows = len(table.rows)
            if last or due or rows >= SEGMENT_ROWS:
                if name == "updates" and not last:
                    rows = next((i for i, row in enumerate(table.rows) if getattr(row[-1], "pending", False)), rows)
                segment = table.seal(rows)
                if segment is not None and directory is not None and self.written(name):
                    self._unwritten[name].append(segment)
            unwritten = self._unwritten[name]
            if directory is not None and unwritten and (last or due or SEGMENT_ROWS * len(unwritten) >= PART_ROWS):
                directory.write_part(name, joined(unwritten))
                unwritten.clear()
        if due:
            self._written = time.monotonic()

    def written(self, name: str) -> bool:
        """Are the rows of this table written to disk while the run goes on?"""
        return getattr(self, name).keep or (self.resumable and name != "events")

    def position(self) -> dict[str, Any]:
        """Where the tables stand, for a checkpoint: everything that can be is sealed and on disk."""
        assert self.directory is not None, "checkpoints are in a run's folder"
        self.flush(everything=True)
        tables = {name: getattr(self, name) for name in TABLES}
        return {
            "parts": self.directory.parts,
            "rows": {name: table.sealed for name, table in tables.items()},
            "digests": {name: table.digest() for name, table in tables.items()},
        }

    def rewrite(self, updates: dict[str, np.ndarray]) -> None:
        """Write the sealed segments to a fresh folder. ``updates`` are the rows of that table, whether it is kept or not."""
        assert self.directory is not None
        for name, arrays in {**self.arrays(), "updates": updates}.items():
            if arrays is not None and self.written(name):
                self.directory.write_part(name, arrays)

    def fingerprints(self, parameters: np.ndarray | None) -> dict[str, str]:
        """The hashes of the run: ``timeline`` covers kind, worker, step and times of all events; ``trajectory`` covers
        parameters, metrics, and the numbers of every push."""
        timeline = self.events.digest()
        if parameters is None:
            return {"timeline": timeline}
        trajectory = hashlib.sha256()
        for digest in (self.updates.digest(), self.metrics.digest()):
            trajectory.update(digest.encode())
        trajectory.update(canonical(parameters))
        return {"timeline": timeline, "trajectory": trajectory.hexdigest()}

    def arrays(self) -> dict[str, dict[str, np.ndarray] | None]:
        """The tables that were kept."""
        return {name: table.arrays() if (table := getattr(self, name)).keep else None for name in TABLES}

    def finish(self, files: dict[str, Any]) -> None:
        """Turn the parts into whole tables. ``files`` are written before the manifest says that the run is over."""
        if self.directory is None:
            return
        for name, arrays in self.arrays().items():
            if arrays is not None:
                self.directory.write_table(name, arrays)
        for name, value in files.items():
            if isinstance(value, np.ndarray):
                self.directory.write_array(name, value)
            else:
                self.directory.write_json(name, value)
