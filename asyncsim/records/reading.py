"""Read and check the files of a run folder. What no run can have written is refused in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from asyncsim.errors import UserError, first_line
from asyncsim.records.rows import EVENT_KINDS, OUTCOMES
from asyncsim.userfiles import MEGABYTE, read_json, regular

FORMAT = 1
MOST_ROWS = 500_000_000
MOST_TABLE = 100_000 * MEGABYTE
MOST_MANIFEST = 64 * MEGABYTE

_MAPPING, _WORDS = "a mapping", "a mapping of text"
MANIFEST = {
    "name": "text", "hash": "text", "status": "text", "fingerprints": _WORDS, "engine": _MAPPING, "device": "text",
    "versions": _WORDS, "scenario": _MAPPING,
}  # fmt: skip
_MAY = {"parameters": "a count", "stage_parameters": "a list of counts", "threads": "a count", "machine": "text",
        "error": "lines"}  # fmt: skip
_SCENARIO = {
    "stages": _MAPPING, "stages.count": "a count", "cluster": _MAPPING, "cluster.workers": "a count",
    "cluster.groups": "a list of mappings", "method": _MAPPING, "evaluate": _MAPPING, "evaluate.splits": "a list of text",
    "dtype": "text", "seed": "a count", "name": "text",
}  # fmt: skip
"""The fields that reports and figures need without building the scenario, whose plugins may not be installed."""
_SUMMARY = {
    **dict.fromkeys(("name", "method", "status"), "text"), **dict.fromkeys(("workers", "updates", "pushes"), "a count"),
    "time": "a number", "fingerprints": _WORDS,
}  # fmt: skip
"""The fields that a summary always has. Every other field is a number or None."""
_CODES = {"outcome": len(OUTCOMES), "kind": len(EVENT_KINDS)}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder; ``UserError`` if it is none, was damaged, or is that of a newer version."""
    file = path / "manifest.json"
    if not file.exists():
        raise UserError(f"{path}: not a run folder (there is no manifest.json in it)")
    manifest = read_json(file, MOST_MANIFEST)
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise UserError(f"{file}: format {found!r} is not the one this version reads ({FORMAT})")
    missing = [key for key in MANIFEST if key not in manifest]
    if missing:
        raise UserError(f"{file}: lacks {', '.join(missing)}; it is not what a run wrote")
    wrong = [(key, what) for key, what in MANIFEST.items() if not _is(manifest[key], what)]
    wrong += [(key, what) for key, what in _MAY.items() if manifest.get(key) is not None and not _is(manifest[key], what)]
    if not wrong:
        wrong = list(_wrong_in_scenario(manifest["scenario"]))
    if wrong:
        raise UserError(f"{file}: {wrong[0][0]} is not {wrong[0][1]}; it is not what a run wrote")
    return manifest


def read_summary(path: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The summary of a run folder; of a run that has not ended, its status alone. Raises ``UserError``."""
    file = path / "summary.json"
    if not file.exists():
        if manifest["status"] in ("finished", "diverged"):
            raise UserError(f"{path}: the run has ended, and there is no {file.name} in it")
        return {"status": manifest["status"]}
    summary = read_json(file, MOST_MANIFEST)
    missing = [name for name in _SUMMARY if name not in summary] if isinstance(summary, dict) else ["numbers"]
    if missing:
        raise UserError(f"{file}: lacks {', '.join(missing)}; it is not what a run wrote")
    for name, value in summary.items():
        what = _SUMMARY.get(name, "a number")
        if (value is not None or name in _SUMMARY) and not _is(value, what):
            raise UserError(f"{file}: {name} is not {what}; it is not what a run wrote")
        if not name.isprintable():
            raise UserError(f"{file}: {name} is no name of a number; it is not what a run wrote")
    return summary


def read_table(path: Path, table: str, columns: Mapping[str, str] | None = None) -> dict[str, np.ndarray] | None:
    """A table of a run folder, from its parts if the run is not finished; None if it was not recorded.

    ``columns`` and their types must be there; others (metrics) must be numbers. ``UserError`` otherwise.
    """
    columns = columns or {}
    whole = path / f"{table}.parquet"
    files = [whole] if whole.exists() else sorted((path / "parts").glob(f"{table}-*.parquet"))
    if not files:
        return None
    try:
        found = read_parquet(files)
    except (OSError, ValueError, _arrow_error()) as error:
        raise UserError(f"{path}: table {table} cannot be read: {first_line(error)}") from None
    missing = [name for name in columns if name not in found]
    if missing:
        raise UserError(f"{path}: table {table} lacks the columns {', '.join(missing)}")
    for name, values in found.items():
        if values.dtype != columns.get(name, values.dtype) or values.dtype.kind not in "biuf":
            raise UserError(f"{path}: table {table}: column {name} holds {values.dtype}, not {columns.get(name, 'numbers')}")
        if name in columns and name in _CODES and len(values) and not 0 <= values.min() <= values.max() < _CODES[name]:
            raise UserError(f"{path}: table {table}: column {name} holds codes that this version does not know")
    return found


def read_rows(path: Path, table: str, count: int, parts: int) -> dict[str, np.ndarray] | None:
    """The first ``count`` rows of a table, from its first ``parts`` parts or the whole table; None if they are not there.

    Later parts, which a dying process may have left in any state, are not looked at.
    """
    files = [file for file in sorted((path / "parts").glob(f"{table}-*.parquet")) if part_number(file) <= parts]
    files = files or [file for file in [path / f"{table}.parquet"] if file.exists()]
    try:
        found = read_parquet(files)
    except (OSError, ValueError, UserError, _arrow_error()):
        return None
    return {name: values[:count] for name, values in found.items()} if len(next(iter(found.values()), ())) >= count else None


def part_number(part: Path) -> int:
    """The number of a part, from its file name; 0 for any other file."""
    digits = part.stem.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def read_parquet(files: Iterable[Path]) -> dict[str, np.ndarray]:
    """The rows of Parquet files, one after the other. Raises ``UserError``, OSError, ValueError or ArrowException."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = 0
    tables = []
    for file in files:
        with pq.ParquetFile(regular(file, MOST_TABLE)) as parquet:
            rows += parquet.metadata.num_rows
            if rows > MOST_ROWS:
                raise ValueError(f"more than {MOST_ROWS:,} rows")
            tables.append(parquet.read())
    data = pa.concat_tables(tables) if tables else pa.table({})
    return {name: data.column(name).to_numpy() for name in data.column_names}


def _arrow_error() -> type[Exception]:
    from pyarrow import ArrowException

    return ArrowException


def _wrong_in_scenario(scenario: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for field, what in _SCENARIO.items():
        section, _, name = field.rpartition(".")
        inside = scenario.get(section, {}) if section else scenario
        if name in inside and not _is(inside[name], what):  # a run writes no empty fields
            yield f"scenario.{field}", what
            return  # what lies below would be looked at in vain
    for group in scenario.get("cluster", {}).get("groups", []):
        if not _is(group.get("workers", 1), "a count"):
            yield "scenario.cluster.groups.workers", "a count"


def _is(value: Any, what: str) -> bool:
    match what:
        case "lines":
            return isinstance(value, str)
        case "text":  # it is printed
            return isinstance(value, str) and value.isprintable()
        case "a number":
            return isinstance(value, int | float)
        case "a count":
            return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63
        case "a mapping":
            return isinstance(value, dict)
        case "a mapping of text":
            return isinstance(value, dict) and all(_is(text, "text") for pair in value.items() for text in pair)
        case "a list of text":
            return isinstance(value, list) and all(_is(each, "text") for each in value)
        case "a list of counts":
            return isinstance(value, list) and all(_is(each, "a count") for each in value)
        case "a list of mappings":
            return isinstance(value, list) and all(isinstance(each, dict) for each in value)
    raise ValueError(what)
