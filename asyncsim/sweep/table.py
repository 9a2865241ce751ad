"""Runs side by side: one row a variant, mean and standard deviation over its seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from asyncsim.records import Result
from asyncsim.scenario import Study


def comparison(study: Study, results: Sequence[Result | None]) -> pd.DataFrame:
    """One row a variant of ``study``; ``results`` in the order of its scenarios, None where a run failed.

    ``time_to_target`` is the mean over the seeds that reached the target, ``reached`` says how many did. ``speedup_to_target``
    and ``speedup_samples`` compare with the study's baseline: ratios of times to the target, and of samples per virtual second.
    Diverged runs count with what they are: no accuracy, target not reached.
    """
    rows = []
    for variant in dict.fromkeys(study.variants):
        chosen = [
            (scenario, result)
            for scenario, name, result in zip(study.scenarios, study.variants, results, strict=True)
            if name == variant and result is not None
        ]
        if chosen:
            rows.append({"variant": variant, **_row([result for _, result in chosen], chosen[0][0])})
    frame = pd.DataFrame(rows)
    if study.baseline is not None and study.baseline in set(frame.get("variant", ())):
        base = frame.set_index("variant").loc[study.baseline]
        if "time_to_target" in frame:
            frame["speedup_to_target"] = base["time_to_target"] / frame["time_to_target"]
        frame["speedup_samples"] = frame["samples_per_second"] / base["samples_per_second"]
    return frame


def _row(results: list[Result], scenario: Any) -> dict[str, Any]:
    summaries = [result.summary for result in results]
    row: dict[str, Any] = {"workers": summaries[0]["workers"], "runs": len(results)}
    row["diverged"] = sum(summary["status"] == "diverged" for summary in summaries)
    for metric in scenario.metrics:
        values = [summary[metric] for summary in summaries if summary.get(metric) is not None]
        row[metric] = float(np.mean(values)) if values else math.nan
        row[f"{metric}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    target = scenario.run.target
    if target is not None:
        times = [summary["time_to_target"] for summary in summaries if summary.get("time_to_target") is not None]
        row["reached"] = len(times)
        row["time_to_target"] = float(np.mean(times)) if times else math.nan
    for key in ("time", "samples_per_second", "staleness_mean", "penalty_mean", "utilisation", "wall_seconds"):
        values = [summary[key] for summary in summaries if summary.get(key) is not None]
        row[key] = float(np.mean(values)) if values else math.nan
    stalest = [summary["staleness_max"] for summary in summaries if summary.get("staleness_max") is not None]
    row["staleness_max"] = max(stalest) if stalest else None
    return row
