"""Advise which fleet and method to take, from a small sweep of candidates: their time, cost and error."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asyncsim.errors import UserError
from asyncsim.records.directory import write_atomically
from asyncsim.scenario import Scenario, Study
from asyncsim.simulation.length import Target
from asyncsim.sweep.result import SweepResult
from asyncsim.units import show_dollars, show_joules, show_seconds

SHOW: dict[str, Callable[[float], str]] = {"time": show_seconds, "cost": show_dollars, "energy": show_joules}
BEST = {"time": "fastest", "cost": "cheapest", "energy": "least energy"}


@dataclass(frozen=True)
class Advice:
    """``table`` has a row a candidate: ``candidate``, ``workers``, ``runs``, ``diverged``, ``reached`` (with a target), the
    ``objectives`` and ``energy`` with ``..._low`` and ``..._high``, ``test_...`` beside, and ``pareto``. ``sentences`` say it.

    Objectives are to be small. ``time`` (virtual seconds) and ``cost`` (dollars, where every candidate has prices) are those to
    the target, counting what seeds that never reached it spent (`comparison`), or without a target those of the whole run;
    ``error`` is one minus the validation accuracy, or the validation loss, at the end.
    """

    name: str
    goal: str
    objectives: tuple[str, ...]
    table: pd.DataFrame
    sentences: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Write ``advice.csv`` and ``advice.json``; each appears whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / "advice.csv", self.table.to_csv(index=False).encode())
        write_atomically(folder / "advice.json", (json.dumps(self.document(), indent=1, allow_nan=False) + "\n").encode())

    def document(self) -> dict[str, Any]:
        """Everything as plain data. A value that is not a number, or that never came about, is None."""
        rows = [{key: _plain(value) for key, value in row.items()} for row in self.table.to_dict("records")]
        chosen = [row["candidate"] for row in rows if row["pareto"]]
        return {
            "study": self.name, "goal": self.goal, "objectives": list(self.objectives), "candidates": rows, "pareto": chosen,
            "advice": list(self.sentences),
        }  # fmt: skip


def judged(study: Study) -> Study:
    """The study as it is to be run for advice: the target is one of the validation split, test is looked at too, and runs go on
    after the target, so that all end after equal work. Raises ``UserError`` if there is no validation split."""
    return replace(study, scenarios=tuple(map(_judged, study.scenarios)))


def advise(result: SweepResult) -> Advice:
    """The advice that follows from a finished sweep of a `judged` study. Raises ``UserError`` if none of its runs ended."""
    study, frame = result.study, result.table
    if frame.empty:
        raise UserError("no run of any candidate ended; there is nothing to advise")
    target = study.scenarios[0].run.target
    metric = next((name for name in study.scenarios[0].metrics if name.endswith("validation_accuracy")), "validation_loss")
    objectives = ("time", *(("cost",) if all(each.cluster.priced for each in study.scenarios) else ()), "error")
    rows = [_row(row, metric, objectives, study, target is not None) for _, row in frame.iterrows()]
    table = pd.DataFrame(rows)
    table["pareto"] = pareto(table[list(objectives)].to_numpy(dtype=float))
    goal = "the end of the run" if target is None else _goal(target)
    return Advice(study.name, goal, objectives, table, tuple(_sentences(table, objectives, goal, target is not None)))


def pareto(values: np.ndarray) -> np.ndarray:
    """Which rows of ``values`` (n, objectives), to be small, no other row beats: none is as good everywhere and better somewhere.

    NaN counts as infinitely bad, and a row that is infinitely bad in the last column (the error: it diverged) is never chosen.
    """
    values = np.where(np.isnan(values), math.inf, values)
    beaten = [bool(((values <= row).all(axis=1) & (values < row).any(axis=1)).any()) for row in values]
    return ~np.array(beaten, dtype=bool) & np.isfinite(values[:, -1])


def _judged(scenario: Scenario) -> Scenario:
    if getattr(scenario.task, "validation", None) == 0:
        raise UserError("advise: there is no validation split, as `task.validation` is 0; raise that")
    changes: dict[str, Any] = {"evaluate.splits": ["validation", "test"]}
    target = scenario.run.target
    if target is not None:
        metric = f"validation_{target.metric.partition('_')[2]}"
        changes["run.target"] = {**target.model_dump(exclude_none=True), "metric": metric, "stop": False}
    return scenario.evolve(changes)


def _row(row: pd.Series, metric: str, objectives: Sequence[str], study: Study, target: bool) -> dict[str, Any]:
    error = (lambda value: 1.0 - value) if metric.endswith("accuracy") else (lambda value: value)
    names = [str(row["variant"])] if len(set(study.variants)) > 1 or not study.fields else []
    names += [f"{field.rpartition('.')[2]} {row[field]}" for field in study.fields]
    made: dict[str, Any] = {"candidate": ", ".join(names), **{key: row[key] for key in ("workers", "runs", "failed", "diverged")}}
    made |= {"reached": row["reached"]} if target else {}
    for name in (*(each for each in objectives if each != "error"), *(("energy",) if "cost" in objectives else ())):
        made[name] = row[f"expected_{name}_to_target"] if target else row[name]
        if target:
            made[f"{name}_low"], made[f"{name}_high"] = row[f"{name}_to_target_low"], row[f"{name}_to_target_high"]
    made["error"] = error(row[metric])
    made["error_low"], made["error_high"] = sorted(error(row[f"{metric}_{end}"]) for end in ("low", "high"))
    made |= {f"test_{key}": row[f"test_{key}"] for key in (metric.partition("_")[2],)}
    return made


def _sentences(table: pd.DataFrame, objectives: Sequence[str], goal: str, target: bool) -> list[str]:
    told = []
    columns = [str(column) for column in table]
    for name in (each for each in BEST if each in columns):
        usable = table[np.isfinite(table[name].astype(float)) & (table["error"].notna() if not target else True)]
        if usable.empty or (name == "energy" and not (usable["energy"] > 0).any()):
            continue
        best = usable.iloc[int(usable[name].to_numpy(dtype=float).argmin())]
        others = [each for each in ("time", "cost", "energy") if each in columns and each != name and best[each] > 0]
        words = ", ".join([SHOW[name](best[name]), *(SHOW[each](best[each]) for each in others)])
        told.append(f"{BEST[name]} to {goal}: {best['candidate']} ({words}){_close(usable, best, name) if target else ''}")
    usable = table[table["error"].notna()]
    if not usable.empty:
        best = usable.iloc[int(usable["error"].to_numpy(dtype=float).argmin())]
        tested = next(key for key in columns if key.startswith("test_"))
        said = f"{best['error']:.4g} on validation, {tested.replace('_', ' ')} {best[tested]:.4g}"
        what = tested.partition("_")[2].replace("accuracy", "error")
        told.append(f"smallest {what} at the end: {best['candidate']} ({said}){_close(usable, best, 'error')}")
    if target:
        never = table[table["reached"] == 0]["candidate"]
        partly = table[(table["reached"] > 0) & (table["reached"] < table["runs"])]
        told += [f"never reached {goal}: {', '.join(never)}"] if len(never) else []
        told += [
            f"{row['candidate']} reached it in {row['reached']} of {row['runs']} runs; its figures count what the others spent"
            for _, row in partly.iterrows()
        ]
    lost = table[table["diverged"] > 0]
    told += [f"{row['candidate']} diverged in {row['diverged']} of {row['runs']} runs" for _, row in lost.iterrows()]
    chosen = ", ".join(table["candidate"][table["pareto"]])
    if chosen:
        told.append(f"no other candidate beats these in {', '.join(objectives)} together: {chosen}")
    else:
        told.append("nothing can be advised: no candidate has an error at the end, as its runs diverged or failed")
    return told


def _close(table: pd.DataFrame, best: pd.Series, name: str) -> str:
    """The candidates that the intervals over seeds do not tell apart from the best one."""
    if max(table["runs"]) < 2:
        return "; one seed each: run more with --seeds before you trust it"
    near = table[(table["candidate"] != best["candidate"]) & (table[f"{name}_low"] <= best[f"{name}_high"])]
    return f"; within its 95 % interval: {', '.join(near['candidate'])}" if len(near) else ""


def _goal(target: Target) -> str:
    level = f">= {target.at_least:g}" if target.at_least is not None else f"<= {target.at_most:g}"
    return f"{target.metric.replace('_', ' ')} {level}"


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
