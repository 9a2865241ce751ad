"""Summarise one run in a few numbers, from its tables and counts alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from asyncsim.records.rows import COSTS, EVENT_KINDS, NOTHING_LOST, WORK, counts

Arrays = dict[str, np.ndarray]


def staleness_summary(updates: Arrays, numeric: bool = True) -> dict[str, Any]:
    """Staleness, and if the run was ``numeric`` gap and penalty, of the pushes that counted (were applied, or buffered for an
    update). ``penalty_mean`` is what updates were divided by on average; gaps are L2 norms.
    """
    counted = counts(updates["outcome"])
    staleness = updates["staleness"][counted]
    return {
        "staleness_mean": _mean(staleness),
        "staleness_median": _number(np.median(staleness)) if len(staleness) else None,
        "staleness_p99": _number(np.percentile(staleness, 99)) if len(staleness) else None,
        "staleness_max": int(staleness.max()) if len(staleness) else None,
        **(
            {name: _mean(updates[name.removesuffix("_mean")][counted]) for name in ("gap_mean", "penalty_mean")}
            if numeric
            else {}
        ),
    }


def time_shares(events: Arrays, num_workers: int, end_ns: int) -> dict[str, float]:
    """How the workers' time was spent: shares of ``num_workers * end``; ``lost`` is work that was cut short, ``unfinished`` what
    was going on at the end, and the time of workers that had left. ``utilisation`` is the share of completed computing: whole
    gradients, or forward and backward passes."""
    total = num_workers * end_ns
    if not total:
        return {}
    spans = (events["end_ns"] - events["start_ns"]).astype(np.float64)
    shares: dict[str, float] = {}
    for index, kind in enumerate(EVENT_KINDS):
        chosen = (events["kind"] == index) & (events["complete"] | (kind in NOTHING_LOST))
        if kind != "stop" and chosen.any():
            name = "utilisation" if kind in WORK else kind
            shares[name] = shares.get(name, 0.0) + float(spans[chosen].sum() / total)
    lost = ~events["complete"] & ~np.isin(events["kind"], [EVENT_KINDS.index(kind) for kind in NOTHING_LOST])
    if lost.any():
        shares["lost"] = float(spans[lost].sum() / total)
    shares["unfinished"] = max(0.0, 1.0 - sum(shares.values()))
    return shares


def unknown_to_a_plan(metrics: Sequence[str], target: bool, priced: bool) -> list[str]:
    """The numbers of a run's summary that depend on gradients, which a plan does not compute: ``metrics`` of the task, what was
    spent until a ``target``, in time and if the fleet is ``priced`` in money and energy, gaps and penalties."""
    spent = ["time_to_target", *([f"{name}_to_target" for name in COSTS] if priced else [])] if target else []
    return [*metrics, *spent, "gap_mean", "penalty_mean"]


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """The values as numbers that JSON can hold: NaN and infinities become None."""
    return {key: _number(value) if isinstance(value, float) else value for key, value in values.items()}


def _mean(values: np.ndarray) -> float | None:
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
