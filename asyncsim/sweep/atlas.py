"""An atlas, drawn from its finished sweep: a row for every cell (method, condition, worker count), and a file that runs it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asyncsim.errors import UserError
from asyncsim.records.directory import write_atomically
from asyncsim.scenario import Scenario, Study
from asyncsim.scenario.atlas import WORKERS
from asyncsim.scenario.atlas_study import CONDITION, AtlasStudy, LeftOut, Place
from asyncsim.scenario.dump import dump_document
from asyncsim.scenario.tuning import Tune
from asyncsim.sweep.result import SweepResult

CELLS = "cells"
"""The folder of the scenario files, beside the page."""
KEYS = ["method", CONDITION, "workers"]
LONGEST = 80
"""Letters of the name of such a file."""


@dataclass(frozen=True)
class Atlas:
    """``table`` has a row a cell, left-out ones too: ``method``, ``condition``, ``workers``, ``note`` (empty where every seed
    ended well), ``scenario`` (the file that runs the cell again), ``runs``, ``failed``, ``diverged``, ``reached`` (with a
    target), the ``measures`` (to be small; ``error`` with ``error_low`` and ``error_high``), what was tuned (``field``,
    ``chosen``, ``at_edge``), and ``..._best`` of each measure: whether no method at the same place is better. ``error_near``
    says that the intervals over seeds do not tell a cell from the best.

    ``error`` is one minus the accuracy at the end, or the loss: the mean over the seeds that did not diverge, with its 95 %
    bootstrap interval. ``time`` (virtual seconds) and ``dollars`` (where every fleet has prices) are those to the target, which
    count what seeds spent that never reached it, or without a target those of the whole run.
    """

    name: str
    table: pd.DataFrame
    measures: tuple[str, ...]
    metric: str
    goal: str | None
    scenario: Scenario
    tune: Tune
    seeds: int
    places: tuple[Place, ...]
    conditions: Mapping[str, Mapping[str, Any]]
    left_out: tuple[LeftOut, ...]
    files: Mapping[str, str]

    @property
    def methods(self) -> list[str]:
        """Those of which at least one cell was to be run, in the order of the file."""
        return list(dict.fromkeys(self.table["method"][self.table["scenario"] != ""]))

    @property
    def error_name(self) -> str:
        """What the error is, such as ``test error`` or ``test loss``."""
        return self.metric.replace("accuracy", "error").replace("_", " ")

    def show_error(self, value: float) -> str:
        """An error as text, such as ``4.91 %``."""
        return f"{100 * value:.3g} %" if self.metric.endswith("accuracy") else f"{value:.4g}"

    def cell(self, method: str, place: Place) -> pd.Series:
        """The row of a method at a place."""
        return self._rows[method, *place]

    @cached_property
    def _rows(self) -> dict[tuple[str, str, int], pd.Series]:
        return {(row["method"], row[CONDITION], row["workers"]): row for _, row in self.table.iterrows()}

    def leading(self, measure: str, most: int) -> list[str]:
        """The methods of the best mean rank over all places, the best first. A cell that is not whole ranks behind all others."""
        sound = self.table[measure].where(self.table["note"] == "")
        ranks = sound.groupby([self.table[key] for key in KEYS[1:]]).rank()
        ranks = ranks.fillna(float(len(self.methods) + 1)).groupby(self.table["method"], sort=False).mean()
        usable = sound.notna().groupby(self.table["method"], sort=False).any()
        return [str(name) for name in ranks[usable].sort_values(kind="stable").index[:most]]

    def write(self, folder: Path) -> None:
        """Write ``atlas.csv`` and the scenario files of the cells; each appears whole or not at all."""
        (folder / CELLS).mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "atlas.csv", self.table.to_csv(index=False).encode())
        for name, text in self.files.items():
            write_atomically(folder / name, text.encode())

    def document(self) -> dict[str, Any]:
        """Everything as plain data. A value that is not a number, or that never came about, is None."""
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.table.to_dict("records")]
        left = [each._asdict() | {"places": [list(place) for place in each.places]} for each in self.left_out]
        return {
            "atlas": self.name, "goal": self.goal, "metric": self.metric, "measures": list(self.measures), "seeds": self.seeds,
            "tune": self.tune.settings(), "conditions": {name: dict(change) for name, change in self.conditions.items()},
            "cells": rows, "left_out": left,
        }  # fmt: skip


def draw_atlas(result: SweepResult, survey: AtlasStudy) -> Atlas:
    """The atlas of a finished sweep of ``survey.study``. Raises ``UserError`` if none of its runs ended."""
    study, tune, choices = result.study, survey.study.tune, result.choices
    assert tune is not None
    assert choices is not None, "an atlas is tuned"
    frame = result.table
    if not any(each is not None for each in result.results):
        raise UserError("no run of the atlas ended; there is nothing to show")
    scenario = study.scenarios[0]
    metric = _metric(scenario.metrics)
    priced = all(each.cluster.priced for each in study.scenarios)
    measures = ("error", "time", *(("dollars",) if priced else ()))
    target = scenario.run.target is not None
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(study.labels):
        groups.setdefault(label, []).append(index)
    rows, files = [], {}
    for label, indices in groups.items():
        first = indices[0]
        key = {"variant": study.variants[first], **study.points[first]}
        name = f"{CELLS}/{label if len(label) <= LONGEST else f'{label[:LONGEST]}-{study.scenarios[first].hash}'}.yaml"
        ended, choice = _row_of(frame, key), _row_of(choices, key)
        assert choice is not None
        rows.append({
            **_keys(key), "note": _note(ended, choice, len(indices)), "scenario": name,
            **_measured(ended, metric, measures, target), "field": choice["field"], "chosen": choice["chosen"],
            "at_edge": bool(choice["at_edge"]),
        })  # fmt: skip
        files[name] = again(study, indices, None if math.isfinite(choice["chosen"]) else tune)
    rows += [
        {"method": left.method, CONDITION: place[0], "workers": place[1], "note": f"left out: {left.reason}", "scenario": ""}
        for left in survey.left_out
        for place in left.places
    ]
    table = pd.DataFrame(rows)
    for count in ("runs", "failed", "diverged", *(("reached",) if target else ())):
        table[count] = table[count].fillna(0).astype(int)
    table["at_edge"] = table["at_edge"].eq(True)
    for measure in measures:
        table[f"{measure}_best"] = _best(table, measure)
    table["error_near"] = _near(table)
    goal = None if scenario.run.target is None else _goal(scenario)
    return Atlas(
        study.name, table, measures, metric, goal, scenario, tune, max(map(len, groups.values())), survey.places,
        survey.conditions, survey.left_out, files,
    )  # fmt: skip


def again(study: Study, indices: list[int], tune: Tune | None = None) -> str:
    """A scenario file that describes these runs of a study, which differ in their seeds alone. ``tune`` is for runs that were
    not done, because nothing could be chosen: the file tries the same values, and fails alike."""
    scenario, label = study.scenarios[indices[0]], study.labels[indices[0]]
    document = {key: value for key, value in scenario.document().items() if key != "seed"}
    seeds = [study.scenarios[index].seed for index in indices]
    document |= {"seed": seeds[0]} if len(seeds) == 1 else {"seeds": seeds}
    told = f"# {label}: one cell of the atlas {study.name}, with everything filled in.\n"
    if tune is not None:
        told += "# Every value that was tried diverged or failed, so there was nothing to run.\n"
        document["tune"] = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in tune.of(study.variants[indices[0]]).settings().items() if value is not None and key != "others"
        }  # fmt: skip
    return f"{told}#   asyncsim run FILE\n{dump_document(document)}"


def _row_of(frame: pd.DataFrame, key: Mapping[str, Any]) -> pd.Series | None:
    chosen = np.logical_and.reduce([frame[name] == value for name, value in key.items()])
    return frame[chosen].iloc[0] if chosen.any() else None


def _keys(key: Mapping[str, Any]) -> dict[str, Any]:
    return {"method": key["variant"], CONDITION: key[CONDITION], "workers": key[WORKERS]}


def _note(ended: pd.Series | None, choice: pd.Series, seeds: int) -> str:
    """What is to be known of a cell that is not whole; empty for one that is."""
    if not math.isfinite(choice["chosen"]):
        return "nothing chosen"
    if ended is None or ended["runs"] < seeds:
        return f"{seeds - (0 if ended is None else ended['runs'])} of {seeds} failed"
    return f"{ended['diverged']} of {seeds} diverged" if ended["diverged"] else ""


def _measured(ended: pd.Series | None, metric: str, measures: tuple[str, ...], target: bool) -> dict[str, Any]:
    """The numbers of a cell; NaN for what it has not."""
    row = pd.Series(dtype=float) if ended is None else ended
    found = {name: row.get(name, math.nan) for name in ("runs", "failed", "diverged", *(("reached",) if target else ()))}
    ends = [row.get(f"{metric}{end}", math.nan) for end in ("", "_low", "_high")]
    if metric.endswith("accuracy"):
        ends = [1.0 - ends[0], 1.0 - ends[2], 1.0 - ends[1]]
    found |= dict(zip(("error", "error_low", "error_high"), ends, strict=True))
    for measure, column in (("time", "time"), ("dollars", "cost")):
        if measure in measures:
            found[measure] = row.get(f"expected_{column}_to_target" if target else column, math.nan)
    return found


def _best(table: pd.DataFrame, measure: str) -> pd.Series:
    """Where a cell is the best of those that are whole at its place."""
    sound = table[measure].where(table["note"] == "")
    return sound == sound.groupby([table[key] for key in KEYS[1:]]).transform("min")


def _near(table: pd.DataFrame) -> pd.Series:
    """Where the interval of a cell that is whole reaches that of the best one at its place, which is itself among them."""
    highest = table["error_high"].where(table["error_best"]).groupby([table[key] for key in KEYS[1:]]).transform("max")
    return table["error_best"] | (table["error_low"].where(table["note"] == "") <= highest)


def _metric(metrics: tuple[str, ...]) -> str:
    """The metric that the error is of: the accuracy where there is one, on the test split where that is evaluated."""
    wanted = (f"{split}_{name}" for name in ("accuracy", "loss") for split in ("test", "validation", "train"))
    return next((name for name in wanted if name in metrics), metrics[0])


def _goal(scenario: Scenario) -> str:
    target = scenario.run.target
    assert target is not None
    level = f"at least {target.at_least:g}" if target.at_least is not None else f"at most {target.at_most:g}"
    return f"{target.metric.replace('_', ' ')} {level}"


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
