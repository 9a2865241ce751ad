"""What each stage of a run did, from its records: worker ``s * K + k`` is stage ``k`` of group ``s``.

In tables and figures for people, stages and groups count from 1, as in the papers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from asyncsim.errors import UserError
from asyncsim.records.rows import EVENT_KINDS, OUTCOMES, WORK, counts

if TYPE_CHECKING:
    import pandas as pd

Arrays = Mapping[str, np.ndarray]
FORWARD, BACKWARD, BOTH = (EVENT_KINDS.index(kind) for kind in ("forward", "backward", "compute"))
BYTES = {"float32": 4, "float64": 8}


def stages_of(manifest: Mapping[str, Any]) -> int:
    """The number of stages into which the model was cut; 1 for replicas."""
    section = (manifest.get("scenario") or {}).get("stages")
    return int(section.get("count", 1)) if isinstance(section, Mapping) else 1


def lane_name(worker: int, stages: int) -> str:
    """A name for a worker: ``worker 3``, or ``group 1, stage 4``."""
    return f"worker {worker}" if stages == 1 else f"group {worker // stages + 1}, stage {worker % stages + 1}"


def stage_table(
    events: Arrays | None, updates: Arrays | None, manifest: Mapping[str, Any], workers: int, seconds: float
) -> pd.DataFrame:
    """A row a stage (index ``stage``, from 1).

    - ``updates`` of its shard; ``staleness_mean``, ``_median``, ``_max`` of the pushes that were not dropped (versions).
    - ``first_backward``: virtual seconds until its first backward pass was done.
    - ``busy``, ``waiting``: shares of its workers' time in passes that were completed, and in spans ``wait``.
    - ``stash``: the most batches at once whose forward pass was done and whose backward pass was not (passes done in one go stash
      nothing). ``versions``: the most versions of its parameters at once that were the newest, or that such a batch, or one
      under way, had read: what it takes to do every backward pass on the parameters of its forward pass. Both are those of
      the group that had most.
    - ``parameters``, ``weight_bytes`` (all those versions), where the manifest has the parameter counts.

    Columns from a table that was not kept are left out; ``UserError`` if neither was.
    """
    stages = stages_of(manifest)
    if events is None and updates is None:
        raise UserError(f"{manifest.get('name')}: kept neither updates nor events: nothing is known of its stages")
    numbers = [manifest["parameters"]] if stages == 1 else manifest.get("stage_parameters")
    size = BYTES.get(manifest["scenario"].get("dtype", "float32"), 4)
    apart = bool(manifest["scenario"].get("method", {}).get("gossip"))
    rows = []
    for stage in range(stages):
        row: dict[str, Any] = {"stage": stage + 1}
        its = None if updates is None else _of_stage(updates, stage, stages)
        if its is not None:
            row |= _arrivals(its)
        if events is not None:
            spans = _of_stage(events, stage, stages)
            row |= _time(spans, workers // stages * seconds)
            members = range(stage, workers, stages)
            passes = {worker: _passes(_where(spans, spans["worker"] == worker)) for worker in members}
            row["stash"] = max(most_at_once(held["ready"], held["end"]) for held in passes.values())
            if its is not None:
                row["versions"] = max(_versions(held, its, worker, apart) for worker, held in passes.items())
        if numbers and numbers[stage]:
            row["parameters"] = numbers[stage]
            if "versions" in row:
                row["weight_bytes"] = row["versions"] * numbers[stage] * size
        rows.append(row)
    import pandas as pd

    return pd.DataFrame(rows).set_index("stage")


def stage_summary(
    events: Arrays | None, updates: Arrays | None, manifest: Mapping[str, Any], workers: int, seconds: float
) -> dict[str, Any]:
    """``stages`` and ``groups`` of a run whose model is cut; with the tables, ``stash_peak`` and ``versions_peak`` (summed over
    the stages of a group) and ``bubble``: the share of the workers' time without a pass after the pipeline has filled, that is
    after the first stage's first update. Empty for replicas.
    """
    stages = stages_of(manifest)
    if stages == 1:
        return {}
    values: dict[str, Any] = {"stages": stages, "groups": workers // stages}
    if events is None:
        return values
    table = stage_table(events, updates, manifest, workers, seconds)
    values["stash_peak"] = int(table["stash"].sum())
    if updates is not None:
        values["versions_peak"] = int(table["versions"].sum())
        applied = (updates["outcome"] == OUTCOMES.index("applied")) & (updates["worker"] % stages == 0)
        end = round(seconds * 1e9)
        full = int(updates["time_ns"][applied].min()) if applied.any() else end
        if end > full:
            work = _where(events, np.isin(events["kind"], [EVENT_KINDS.index(kind) for kind in WORK]) & events["complete"])
            busy = np.maximum(work["end_ns"] - np.maximum(work["start_ns"], full), 0).astype(np.float64).sum()
            values["bubble"] = max(0.0, 1.0 - float(busy) / (workers * (end - full)))
    return values


def most_at_once(starts: np.ndarray, ends: np.ndarray) -> int:
    """The largest number of spans ``[start, end)`` that share a moment. Spans without length share none."""
    kept = ends > starts
    starts, ends = starts[kept], ends[kept]
    times = np.concatenate([ends, starts])  # at the same time, ends are counted before starts
    steps = np.concatenate([np.full(len(ends), -1), np.ones(len(starts), int)])
    return int(np.cumsum(steps[np.argsort(times, kind="stable")]).max(initial=0))


def _of_stage(rows: Arrays, stage: int, stages: int) -> dict[str, np.ndarray]:
    return _where(rows, rows["worker"] % stages == stage)


def _where(rows: Arrays, chosen: np.ndarray) -> dict[str, np.ndarray]:
    return {name: column[chosen] for name, column in rows.items()}


def _arrivals(updates: Arrays) -> dict[str, Any]:
    staleness = updates["staleness"][counts(updates["outcome"])]
    none = not len(staleness)
    return {
        "updates": int(updates["version"].max(initial=0)),
        "staleness_mean": np.nan if none else float(staleness.mean()),
        "staleness_median": np.nan if none else float(np.median(staleness)),
        "staleness_max": 0 if none else int(staleness.max()),
    }


def _time(events: Arrays, total: float) -> dict[str, Any]:
    seconds = (events["end_ns"] - events["start_ns"]) / 1e9
    backward = events["complete"] & np.isin(events["kind"], (BACKWARD, BOTH))
    work = events["complete"] & np.isin(events["kind"], [EVENT_KINDS.index(kind) for kind in WORK])
    return {
        "first_backward": events["end_ns"][backward].min() / 1e9 if backward.any() else np.nan,
        "busy": float(seconds[work].sum() / total) if total else np.nan,
        "waiting": float(seconds[events["kind"] == EVENT_KINDS.index("wait")].sum() / total) if total else np.nan,
    }


def _passes(events: Arrays) -> dict[str, np.ndarray]:
    """The batches of one worker: what they read, when they begin, when their forward pass is done, and when both are (never:
    the largest integer). Passes that were done again count as done once, the last time."""
    never = np.iinfo(np.int64).max
    whole = _where(events, events["complete"])
    last = _where(whole, np.isin(whole["kind"], (BACKWARD, BOTH)))
    ends = dict(zip(last["step"].tolist(), last["end_ns"].tolist(), strict=True))
    first = _where(whole, np.isin(whole["kind"], (FORWARD, BOTH)))
    end = np.array([ends.get(step, never) for step in first["step"].tolist()], np.int64)
    return {"version": first["version"], "begin": first["start_ns"], "ready": first["end_ns"], "end": end}


def _versions(passes: Arrays, updates: Arrays, worker: int, apart: bool) -> int:
    """The most versions alive at once: each from the update that makes it to the one that replaces it, or to the end of the last
    backward pass of a batch that read it. ``apart``: the worker's group has parameters of its own."""
    applied = updates["outcome"] == OUTCOMES.index("applied")
    if apart:
        applied &= updates["worker"] == worker
    versions, first = np.unique(np.arange(1, applied.sum() + 1) if apart else updates["version"][applied], return_index=True)
    made = np.concatenate([[0], updates["time_ns"][applied][first]])
    names = np.concatenate([[0], versions])
    never = np.iinfo(np.int64).max
    until = np.append(made[1:], never)
    place = np.searchsorted(names, passes["version"])
    known = place < len(names)
    np.maximum.at(until, place[known], passes["end"][known])
    return most_at_once(made, until)
