"""Find the newest checkpoint of a run folder that is whole, and refuse one that does not belong to the run."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncsim.errors import UserError
from asyncsim.records.checkpoints import Damaged, checkpoint_files, read_checkpoint
from asyncsim.records.reading import read_rows
from asyncsim.records.rows import METRICS, with_notes
from asyncsim.records.tables import Table, canonical

if TYPE_CHECKING:
    import numpy as np

    from asyncsim.tasks.task import Task


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that has been read: ``state`` and ``arrays`` as ``state.capture`` made them, and the ``rows`` of metrics and
    updates up to that point."""

    path: Path
    identity: dict[str, Any]
    tables: dict[str, Any]
    state: dict[str, Any]
    arrays: dict[str, np.ndarray]
    rows: dict[str, dict[str, np.ndarray]]
    wall_seconds: float


def newest_checkpoint(run: Path, metrics: tuple[str, ...], notes: tuple[str, ...] = ()) -> Checkpoint | None:
    """The newest whole checkpoint in a run folder; None if none was written. Raises ``UserError`` if all are damaged."""
    problems = []
    for path in checkpoint_files(run):
        try:
            return _load(run, path, metrics, notes)
        except Damaged as error:
            problems.append(f"{path}: {error}")
    if problems:
        raise UserError("\n".join([*problems, "no checkpoint of this run can be used; start it again with `run --force`"]))
    return None


def _load(run: Path, path: Path, metrics: tuple[str, ...], notes: tuple[str, ...]) -> Checkpoint:
    header, arrays = read_checkpoint(path)
    columns = {"metrics": {**METRICS, **dict.fromkeys(metrics, "float64")}, "updates": with_notes(notes)}
    rows = {}
    try:
        tables = header["tables"]
        for name, types in columns.items():
            table = Table(types)
            count = tables["rows"][name]
            found = read_rows(run, name, count, tables["parts"]) if count else table.arrays()
            if found is None or list(found) != list(types) or any(found[key].dtype != dtype for key, dtype in types.items()):
                raise Damaged(f"the first {count:,} rows of its table {name} are not there")
            table.add(found)
            if table.digest() != tables["digests"][name]:
                raise Damaged(f"the rows of its table {name} are not those that were recorded")
            rows[name] = found
        return Checkpoint(path, header["identity"], tables, header["state"], arrays, rows, header["wall_seconds"])
    except (KeyError, TypeError) as error:
        raise Damaged(f"lacks {error}") from None


def check_identity(checkpoint: Checkpoint, identity: dict[str, Any]) -> None:
    """Refuse a checkpoint of another scenario, version, machine or data. Raises ``UserError``, naming what differs."""
    for name, mine in identity.items():
        theirs = checkpoint.identity.get(name)
        if theirs == mine:
            continue
        if isinstance(mine, dict) and isinstance(theirs, dict):
            different = [key for key in mine if theirs.get(key) != mine[key]]
            what = ", ".join(f"{key} {theirs.get(key)}, now {mine[key]}" for key in different)
        else:
            what = f"{theirs}, now {mine}"
        raise UserError(f"{checkpoint.path}: made with another {name} ({what}), which may give other bits; run it again")


def data_digest(task: Task) -> str:
    """A hash of the data and the initial parameters."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(task.splits):
        for tensor in task.splits[name]:
            digest.update(canonical(tensor.cpu().numpy()))
    digest.update(canonical(task.init().cpu().numpy()))
    return digest.hexdigest()
