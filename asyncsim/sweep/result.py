"""The results of a sweep, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asyncsim.errors import UserError, nearest
from asyncsim.records import Result, load_result
from asyncsim.records.directory import write_atomically
from asyncsim.scenario import Document, Study, build_scenario
from asyncsim.scenario.problems import validated
from asyncsim.scenario.tuning import Tune
from asyncsim.sweep.runner import Executor, Report, run_folder, simulate_study
from asyncsim.sweep.table import comparison, plain, runs_table
from asyncsim.sweep.tune import tuned_study
from asyncsim.userfiles import MOST_JSON, read_json, regular

FORMAT = 2
FILE = "sweep.json"


@dataclass(frozen=True)
class SweepResult:
    """The results of a study in the order of its scenarios, None where a run failed; ``errors`` says why, by index.

    After tuning, ``study`` and ``results`` are those at the chosen values, ``common`` those at the scenario's own value, and
    ``choices`` has a row a variant and point: the chosen value, and what validation said of each that was tried. ``undecided``
    are the scenarios (by index) for which nothing could be chosen, and that were therefore not run.
    """

    study: Study
    results: tuple[Result | None, ...]
    errors: Mapping[int, str] = field(default_factory=dict)
    path: Path | None = None
    common: SweepResult | None = None
    choices: pd.DataFrame | None = None
    undecided: tuple[int, ...] = ()

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A table with one row for each run (`runs_table`)."""
        return runs_table(self.study, self.results, self.undecided)

    @cached_property
    def table(self) -> pd.DataFrame:
        """A table with one row for each variant and point (`comparison`). After tuning the columns ``..._common`` are those at
        the common value."""
        table = comparison(self.study, self.results)
        if self.choices is None or self.study.tune is None:
            return table
        common = None if self.common is None else comparison(self.common.study, self.common.results)
        return tuned_table(self.study, self.study.tune, table, common, self.choices)

    @property
    def finished(self) -> list[Result]:
        """The results of the runs that have one, as the functions of ``asyncsim.plots`` take them."""
        return [result for result in self.results if result is not None]

    def _repr_html_(self) -> str:
        """For notebooks: the table."""
        return self.table.to_html(index=False, float_format="{:.4g}".format)

    def best(self, metric: str = "test_accuracy", largest: bool = True) -> pd.Series:
        """The row of ``table`` with the largest (else smallest) mean of ``metric``; the first of equal ones. Raises ``UserError``
        if no run has the metric."""
        known = [str(column) for column in self.table.select_dtypes("number")]
        if metric not in known:
            raise UserError(f"no column {metric!r}{nearest(metric, known)}; there are: {', '.join(known)}")
        values = self.table[metric].to_numpy(float)
        if np.isnan(values).all():
            raise UserError(f"no run has a {metric}: all failed or diverged")
        return self.table.iloc[int(np.nanargmax(values) if largest else np.nanargmin(values))]

    def write(self, folder: Path) -> None:
        """Write ``runs.csv``, ``table.csv``, ``sweep.json`` and, after tuning, ``choices.csv``; each appears whole or not at
        all."""
        folder.mkdir(parents=True, exist_ok=True)
        tables = {"runs.csv": self.runs, "table.csv": self.table}
        if self.choices is not None:
            tables["choices.csv"] = self.choices
        for name, table in tables.items():
            write_atomically(folder / name, table.to_csv(index=False).encode())
        write_atomically(folder / FILE, (json.dumps(self._document(folder), indent=1, default=str) + "\n").encode())

    def _document(self, folder: Path) -> dict[str, Any]:
        tune = None if self.study.tune is None else self.study.tune.settings()
        common = None if self.common is None else self.common._runs(folder)
        return {
            "format": FORMAT, "name": self.study.name, "baseline": self.study.baseline, "tune": tune,
            "runs": self._runs(folder), "common": common,
        }  # fmt: skip

    def _runs(self, folder: Path) -> list[dict[str, Any]]:
        study = self.study
        return [
            {
                "folder": run_folder(folder.parent, study, index).name,
                "variant": study.variants[index],
                "point": dict(study.points[index]),
                "error": self.errors.get(index),
                "undecided": index in self.undecided,
                "scenario": scenario.document(),
            }
            for index, scenario in enumerate(study.scenarios)
        ]


def tuned_table(
    study: Study, tune: Tune, table: pd.DataFrame, common: pd.DataFrame | None, choices: pd.DataFrame
) -> pd.DataFrame:
    """The comparison at the chosen values, ``table``, beside the metrics at the common value, those of ``common`` (None: there
    were no such runs). What nothing could be chosen for has a row with ``runs`` 0, no chosen value and no metrics but those at
    the common one. The chosen value stands in a column of the tuned field's name; in ``chosen`` beside the name ``field`` and
    ``common`` where variants have others."""
    keys = ["variant", *study.fields]
    field = "chosen" if tune.others else tune.field
    names = {} if tune.others else {"chosen": field, "common": f"{field}_common"}
    values = choices[[*keys, *(["field"] if tune.others else []), "chosen", "common"]].rename(columns=names)
    whole = values.merge(_fleets(study), how="left", on=keys)
    whole = whole.merge(table.drop(columns="workers"), how="left", on=keys)
    whole = whole[whole["runs"].notna() | whole[field].isna()].reset_index(drop=True)
    counts = [name for name in ("runs", "failed", "diverged", "reached") if name in whole]
    whole[counts] = whole[counts].fillna(0).astype(int)
    if common is None:
        return whole
    beginnings = ("test_", "time_to_target", "expected_", "reached", "diverged")
    told = [column for column in map(str, common) if column.startswith(beginnings)]
    beside = common[keys + told].rename(columns={column: f"{column}_common" for column in told})
    return whole.merge(beside, how="left", on=keys)


def _fleets(study: Study) -> pd.DataFrame:
    """How many workers each variant and point has."""
    rows = {
        label: {"variant": variant, **{field: plain(point.get(field)) for field in study.fields},
                "workers": scenario.cluster.num_workers}
        for label, variant, point, scenario in zip(study.labels, study.variants, study.points, study.scenarios, strict=True)
    }  # fmt: skip
    return pd.DataFrame(list(rows.values()))


def simulate_sweep(
    study: Study,
    out: str | Path | None = None,
    executor: Executor | None = None,
    force: bool = False,
    report: Callable[[Report], None] | None = None,
    phase: Callable[[Study], None] | None = None,
) -> SweepResult:
    """Run a study, tune it first if its file says so, and with ``out`` write the tables beside its runs.

    ``phase`` is called before each set of runs: a study with ``tune`` has several (trials, the chosen values, the common one).
    """
    errors: dict[int, str] = {}

    def run(part: Study) -> tuple[Result | None, ...]:
        errors.clear()

        def seen(event: Report) -> None:
            if event.error is not None:
                errors[event.index] = event.error
            if report is not None:
                report(event)

        if phase is not None:
            phase(part)
        return tuple(simulate_study(part, out, force=force, report=seen, executor=executor))

    path = None if out is None else run_folder(Path(out), study, 0).parent
    if study.tune is None:
        return _written(SweepResult(study, run(study), dict(errors), path))
    chosen, choices, undecided = tuned_study(study, run)
    common = SweepResult(study, run(study), dict(errors), path) if study.tune.common else None
    decided = [index for index in range(len(study)) if index not in undecided]
    results: list[Result | None] = [None] * len(study)
    errors.clear()
    if decided:
        for index, result in zip(decided, run(chosen.of(decided)), strict=True):
            results[index] = result
    failed = {decided[index]: error for index, error in errors.items()}
    return _written(SweepResult(chosen, tuple(results), failed, path, common, choices, undecided))


def _written(result: SweepResult) -> SweepResult:
    runs = (*result.results, *(result.common.results if result.common else ()))
    if result.path is not None and result.study.several and any(each is not None for each in runs):
        result.write(result.path)
    return result


def load_sweep(folder: str | Path) -> SweepResult:
    """Read a sweep's folder, with the results of its runs as far as they are there. Raises ``UserError``."""
    folder = Path(folder)
    if not (folder / FILE).exists():
        raise UserError(f"{folder}: not a sweep's folder (there is no {FILE} in it)")
    document = read_json(folder / FILE)
    if not isinstance(document, dict) or document.get("format") != FORMAT or not _whole(document):
        raise UserError(f"{folder / FILE}: is not what this version of asyncsim writes")
    if document["tune"] is None:
        return _read(folder, document, "runs")
    try:
        choices = pd.read_csv(regular(folder / "choices.csv", MOST_JSON), dtype={"variant": str})
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / 'choices.csv'}: cannot be read: {error}") from None
    common = None if document["common"] is None else _read(folder, document, "common")
    return replace(_read(folder, document, "runs"), common=common, choices=choices)


def _whole(document: dict[str, Any]) -> bool:
    """Whether everything stands in it that was written."""
    kinds: dict[str, Any] = {"name": str, "baseline": (str, dict, type(None)), "tune": (dict, type(None)), "runs": list}
    entry: dict[str, Any] = {"folder": str, "variant": str, "point": dict, "error": (str, type(None)), "scenario": dict}

    def fits(value: Any, keys: dict[str, Any]) -> bool:
        return isinstance(value, dict) and all(key in value and isinstance(value[key], kind) for key, kind in keys.items())

    common = document.get("common", "missing")
    if not fits(document, kinds) or not document["runs"] or not (common is None or isinstance(common, list)):
        return False
    return all(fits(run, entry) and Path(run["folder"]).name == run["folder"] for run in (*document["runs"], *(common or ())))


def _read(folder: Path, document: dict[str, Any], part: str) -> SweepResult:
    """The runs at the chosen values, or those at the common one."""
    runs, whole = document[part], Document(document, str(folder / FILE))
    study = Study(
        document["name"],
        tuple(build_scenario(Document(run["scenario"], str(folder / FILE))) for run in runs),
        tuple(run["variant"] for run in runs),
        document["baseline"],
        tuple(run["point"] for run in runs),
        None if document["tune"] is None else validated(Tune, document["tune"], whole, under=("tune",)),
    )
    undecided = tuple(index for index, run in enumerate(runs) if run.get("undecided"))
    results = tuple(None if run.get("undecided") else _loaded(folder / run["folder"]) for run in runs)
    errors = {index: run["error"] for index, run in enumerate(runs) if run["error"] is not None}
    return SweepResult(study, results, errors, folder, undecided=undecided)


def _loaded(folder: Path) -> Result | None:
    if not (folder / "summary.json").exists():
        return None
    return load_result(folder)
