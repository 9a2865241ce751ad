"""See a run as its stages: one result for each stage, with only the pushes of that stage's shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from asyncsim.plots.fields import labels_for
from asyncsim.records import Result
from asyncsim.records.stage_tables import stages_of


def by_stage(
    results: Result | Sequence[Result], labels: Sequence[str] | str | None = None
) -> tuple[list[Result], list[str]]:  # fmt: skip
    """The stages of all runs as results, and their labels: ``stage 2``, preceded by the run's label where there are several
    runs."""
    runs = [results] if isinstance(results, Result) else list(results)
    names = labels_for(runs, labels) if labels is None or isinstance(labels, str) else list(labels)
    alone = len(set(names)) == 1
    parts, called = [], []
    for name, run in zip(names, runs, strict=True):
        stages, updates = stages_of(run.manifest), run.tables.get("updates")
        for stage in range(stages):
            its = updates and {column: values[updates["worker"] % stages == stage] for column, values in updates.items()}
            parts.append(replace(run, tables={**run.tables, "updates": its}))
            called.append(f"stage {stage + 1}" if alone else f"{name}, stage {stage + 1}")
    return parts, called
