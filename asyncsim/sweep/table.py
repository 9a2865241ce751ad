"""A study as tables: one row for each run, and one row for each variant and point, over its seeds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from asyncsim.records import Result
from asyncsim.records.rows import COSTS
from asyncsim.scenario import Scenario, Study
from asyncsim.sweep.bootstrap import bootstrap_interval

Chosen = list[tuple[Scenario, Result]]


def runs_table(study: Study, results: Sequence[Result | None], undecided: Sequence[int] = ()) -> pd.DataFrame:
    """One row a run, in the order of the file, failed ones too: ``variant``, the swept fields, ``seed``, ``status`` (``nothing
    chosen`` for the ``undecided`` after tuning), and the run's summary with ``samples_to_target`` beside ``time_to_target``."""
    rows = []
    places = zip(study.scenarios, study.variants, study.points, results, strict=True)
    for index, (scenario, variant, point, result) in enumerate(places):
        without = "nothing chosen" if index in undecided else "failed"
        row: dict[str, Any] = {"variant": variant, **{field: plain(point.get(field)) for field in study.fields}}
        row |= {"seed": scenario.seed, "status": without if result is None else result.summary["status"]}
        if result is not None:
            row |= {key: value for key, value in result.summary.items() if key not in ("name", "seed", "status", "fingerprints")}
            row |= {f"fingerprint_{name}": value for name, value in result.summary.get("fingerprints", {}).items()}
            if scenario.run.target is not None:
                row["samples_to_target"] = samples_to_target(scenario, result)
        rows.append(row)
    return pd.DataFrame(rows)


def comparison(study: Study, results: Sequence[Result | None]) -> pd.DataFrame:
    """One row a variant and point of ``study``; ``results`` in the order of its scenarios, None where a run failed.

    ``runs`` counts those that ended, ``failed`` those that did not, ``diverged`` and ``reached`` (the target) are of ``runs``.
    A metric has its mean, ``_sd``, and ``_low`` and ``_high``: a 95 % bootstrap interval over seeds.

    ``time_to_target`` and ``samples_to_target`` are means over the seeds that reached the target. ``expected_...`` counts the
    others, too: what all seeds together spent, divided by how many reached it (what a user spends who tries seeds until one
    does); runs with prices have the same of ``cost_to_target`` and ``energy_to_target``. ``speedup_to_target``,
    ``speedup_samples_to_target`` (ratios of these) and ``speedup_samples`` (samples per virtual second) compare with the study's
    baseline; NaN where one of both never reached it. Diverged runs count with what they are: no accuracy, target not reached.
    """
    groups: dict[str, list[int]] = {}
    for index, label in enumerate(study.labels):
        groups.setdefault(label, []).append(index)
    rows, kept = [], []
    for indices in groups.values():
        chosen = [(study.scenarios[index], result) for index in indices if (result := results[index]) is not None]
        if chosen:
            first = indices[0]
            swept = {field: plain(study.points[first].get(field)) for field in study.fields}
            rows.append({"variant": study.variants[first], **swept, **_row(chosen, len(indices) - len(chosen))})
            kept.append(first)
    counts = ("workers", "runs", "failed", "diverged")
    frame = pd.DataFrame(rows) if rows else pd.DataFrame(columns=["variant", *study.fields, *counts])
    if study.baseline is not None and rows:
        _speedups(frame, study, kept)
    return frame


def samples_to_target(scenario: Scenario, result: Result) -> float | None:
    """The number of samples whose gradients had been applied when an evaluation first reached the run's target; None if none
    did."""
    target, metrics = scenario.run.target, result.metrics
    if target is None or target.metric not in metrics:
        return None
    values = metrics[target.metric]
    reached = metrics["samples"][values >= target.at_least if target.at_least is not None else values <= target.at_most]
    return None if reached.empty else int(reached.iloc[0])


def plain(value: Any) -> Any:
    """A swept value as a table cell: numbers and text as they are, a mapping such as ``{kind: gamma, cv: 1}`` as text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {plain(part)}" for key, part in value.items()) + "}"
    return str(value) if isinstance(value, list | tuple) else value


def _row(chosen: Chosen, failed: int) -> dict[str, Any]:
    scenario = chosen[0][0]
    summaries = [result.summary for _, result in chosen]
    row: dict[str, Any] = {"workers": summaries[0]["workers"], "runs": len(chosen), "failed": failed}
    row["diverged"] = sum(summary["status"] == "diverged" for summary in summaries)
    for metric in scenario.metrics:
        values = _numbers(summaries, metric)
        row[metric] = _mean(values)
        row[f"{metric}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
        row[f"{metric}_low"], row[f"{metric}_high"] = bootstrap_interval(values)
    if scenario.run.target is not None:
        row |= _to_target(chosen)
    for key in ("time", "samples_per_second", "staleness_mean", "penalty_mean", "utilisation", "wall_seconds"):
        row[key] = _mean(_numbers(summaries, key))
    for key in COSTS if any("cost" in summary for summary in summaries) else ():
        row[key] = _mean(_numbers(summaries, key))
    stalest = _numbers(summaries, "staleness_max")
    row["staleness_max"] = max(stalest) if stalest else None
    return row


def _to_target(chosen: Chosen) -> dict[str, Any]:
    summaries = [result.summary for _, result in chosen]
    times = _numbers(summaries, "time_to_target")
    row: dict[str, Any] = {"reached": len(times), "time_to_target": _mean(times)}
    row["time_to_target_low"], row["time_to_target_high"] = bootstrap_interval(times)
    spent = [s["time"] if s.get("time_to_target") is None else s["time_to_target"] for s in summaries]
    row["expected_time_to_target"] = sum(spent) / len(times) if times else math.nan
    for name in COSTS if any("cost" in summary for summary in summaries) else ():
        needed = _numbers(summaries, f"{name}_to_target")
        row[f"{name}_to_target"] = _mean(needed)
        row[f"{name}_to_target_low"], row[f"{name}_to_target_high"] = bootstrap_interval(needed)
        paid = [s[name] if s.get(f"{name}_to_target") is None else s[f"{name}_to_target"] for s in summaries]
        row[f"expected_{name}_to_target"] = sum(paid) / len(needed) if needed else math.nan
    samples = [samples_to_target(scenario, result) for scenario, result in chosen]
    found = [count for count in samples if count is not None]
    row["samples_to_target"] = _mean(found)
    used = [s.get("samples", math.nan) if count is None else count for s, count in zip(summaries, samples, strict=True)]
    row["expected_samples_to_target"] = sum(used) / len(found) if found else math.nan
    return row


def _speedups(frame: pd.DataFrame, study: Study, kept: list[int]) -> None:
    """Fill in the speed-ups over the row that has the baseline's values, and otherwise the same variant and point."""
    places = {_place(study, index): row for row, index in enumerate(kept)}
    bases = [_base(study, index, places) for index in kept]
    if all(base is None for base in bases):
        return

    def ratio(column: str, of_base: bool) -> list[float]:
        values = frame[column].to_numpy(dtype=float)
        pairs = [(math.nan if base is None else values[base], own) for base, own in zip(bases, values, strict=True)]
        return [(base / own if of_base else own / base) if base and own else math.nan for base, own in pairs]

    if "expected_time_to_target" in frame:
        frame["speedup_to_target"] = ratio("expected_time_to_target", True)
        frame["speedup_samples_to_target"] = ratio("expected_samples_to_target", True)
    frame["speedup_samples"] = ratio("samples_per_second", False)


def _place(study: Study, index: int) -> tuple[Any, ...]:
    return (study.variants[index], *(repr(plain(study.points[index].get(field))) for field in study.fields))


def _base(study: Study, index: int, places: Mapping[tuple[Any, ...], int]) -> int | None:
    """The row to compare with: the one that differs from this row only in the baseline's values, or else the only row that has
    all of them."""
    said = study.baseline if isinstance(study.baseline, Mapping) else {"variant": study.baseline}
    wanted = {field: repr(plain(value)) for field, value in said.items() if field != "variant"}
    own = _place(study, index)
    variant = str(said["variant"]) if "variant" in said else own[0]
    place = (variant, *(wanted.get(field, old) for field, old in zip(study.fields, own[1:], strict=True)))
    if place in places:
        return places[place]
    fields = list(study.fields)
    fitting = [
        row
        for other, row in places.items()
        if other[0] == variant and all(other[1 + fields.index(field)] == value for field, value in wanted.items())
    ]
    return fitting[0] if len(fitting) == 1 else None


def _numbers(summaries: list[dict[str, Any]], key: str) -> list[float]:
    return [summary[key] for summary in summaries if summary.get(key) is not None]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan
