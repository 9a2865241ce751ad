"""Find and read run folders; only the tables that a figure needs are read."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from asyncsim.errors import UserError
from asyncsim.records import Result, read_manifest
from asyncsim.records.directory import read_table
from asyncsim.records.rows import EVENTS, METRICS, UPDATES

COLUMNS = {"metrics": METRICS, "updates": UPDATES, "events": EVENTS}


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """The run folders among ``paths`` and below them, in order, each of them once. Raises ``UserError`` where there is none."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: there is no such folder")
        runs = list(_below(path)) if path.is_dir() else []
        if not runs:
            raise UserError(f"{path}: no run in it (a run is a folder with a manifest.json; `asyncsim run` writes them)")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def _below(path: Path) -> Iterator[Path]:
    """Folders with a manifest; what lies inside a run is its own, and hidden folders are remains of runs that were replaced."""
    for folder, below, files in os.walk(path):
        if "manifest.json" in files:
            below.clear()
            yield Path(folder)
        else:
            below[:] = sorted(name for name in below if not name.startswith("."))


def read_run(path: Path, tables: Iterable[str] = ()) -> Result:
    """Read a run's manifest and summary, and those of its ``tables``; the parameters are not read. Raises ``UserError``."""
    manifest = read_manifest(path)
    file = path / "summary.json"
    try:
        summary = json.loads(file.read_text()) if file.exists() else {"status": manifest["status"]}
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if not isinstance(summary, dict):
        raise UserError(f"{file}: is not what a run wrote")
    if not isinstance(manifest["scenario"], dict) or not isinstance(manifest["fingerprints"], dict):
        raise UserError(f"{path / 'manifest.json'}: is not what a run wrote")
    return Result(summary, manifest, {name: read_table(path, name, COLUMNS[name]) for name in tables}, None, path)


def read_runs(paths: Sequence[Path], tables: Iterable[str] = ()) -> tuple[list[Result], dict[Path, str]]:
    """All runs that can be read, and the problems of the others."""
    results, broken = [], {}
    for path in paths:
        try:
            results.append(read_run(path, tables))
        except UserError as error:
            broken[path] = str(error)
    return results, broken


def status_of(run: Result) -> str:
    """The status of a run: ``finished``, ``diverged``, ``interrupted``, ``failed``, or ``running``, which is also that of a run
    that was killed."""
    return str(run.manifest["status"])
