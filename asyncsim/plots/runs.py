"""Find and read run folders; only the tables that a figure needs are read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError
from asyncsim.records import Result, load_result
from asyncsim.userfiles import read_json


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """The run folders among ``paths`` and below them, each of them once: those of a study in the order of its file, others by
    name. Raises ``UserError`` where there is none."""
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise UserError(f"{path}: there is no such folder")
        runs = list(_below(path)) if path.is_dir() else []
        if not runs:
            raise UserError(f"{path}: no run in it (a run is a folder with a manifest.json; `asyncsim run` writes them)")
        for run in in_file_order(runs):
            found.setdefault(run.resolve(), run)
    return list(found.values())


def in_file_order(runs: Sequence[Path]) -> list[Path]:
    """Runs of one study as its file has them, at the place of its first, and after them its other runs (trials of a tuning)."""
    orders = {folder: study_order(folder) for folder in dict.fromkeys(run.parent for run in runs)}
    groups: dict[Path, list[Path]] = {}
    for run in runs:
        groups.setdefault(run.parent if orders[run.parent] else run, []).append(run)
    last = len(runs)
    return [
        run
        for place, group in groups.items()
        for run in (sorted(group, key=lambda run: orders[run.parent].get(run.name, last)) if orders.get(place) else group)
    ]


def study_baseline(runs: Iterable[Path]) -> str | None:
    """The variant that the file of all these runs' study names as its baseline; None if there is no such study, or variant."""
    folders = list(dict.fromkeys(run.parent for run in runs))
    said = _study(folders[0]).get("baseline") if len(folders) == 1 else None
    return said if isinstance(said, str) else said.get("variant") if isinstance(said, dict) else None


def study_order(folder: Path) -> dict[str, int]:
    """Place in the file of each run folder of a study; empty for other folders."""
    study = _study(folder)
    names = [run.get("folder") for part in ("runs", "common") for run in study.get(part) or () if isinstance(run, dict)]
    return {str(name): place for place, name in reversed(list(enumerate(names)))}


def _study(folder: Path) -> dict[str, Any]:
    """What a sweep noted of itself in a folder; a file that is not there, or is no such thing, orders nothing."""
    try:
        found = read_json(folder / "sweep.json")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


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
    return load_result(path, tables, parameters=False)


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
