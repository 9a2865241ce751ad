"""Sentences at the end of a run or a plan about what its numbers do not tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from asyncsim.cli.console import Console
from asyncsim.records import Result
from asyncsim.records.rows import counts
from asyncsim.scenario import Scenario
from asyncsim.scenario.unreached import unreached
from asyncsim.units import show_seconds

Ended = tuple[str, Scenario, Mapping[str, Any]]
"""A run by its name, its scenario and its summary."""


def tell_unreached(runs: Iterable[Ended]) -> None:
    """Print the sentence of `unreached_note` on stderr, if there is one."""
    note = unreached_note(runs)
    if note is not None:
        Console(stderr=True).say(note)


def unreached_note(runs: Iterable[Ended]) -> str | None:
    """One sentence about what the scenarios schedule after the end of the runs: how much that is, and what comes first. None if
    there is nothing."""
    runs = list(runs)
    found = [(late, name, summary) for name, scenario, summary in runs for late in unreached(scenario, summary)[:1]]
    if not found:
        return None
    first, name, summary = min(found, key=lambda each: each[0].at)
    end = show_seconds(summary["time"])
    if len(runs) == 1:
        more = len(unreached(runs[0][1], summary)) - 1
        others = f", and {more} more of the scenario's" if more else ""
        return f"note: {first}{others} had no effect: the run ended at {end} of virtual time"
    return f"note: in {len(found)} of {len(runs)} runs something had no effect, as the run ended before; first: {first}, " \
           f"in {name}, which ended at {end} of virtual time"  # fmt: skip


def unknown_to_plans(summaries: Sequence[Mapping[str, Any]]) -> str:
    """What the numbers of plans cannot tell."""
    names = list(dict.fromkeys(name for summary in summaries for name in summary["unknown"]))
    early = any(summary["stops_early"] for summary in summaries)
    told = "; and as a run may stop at its target, length, time and cost are at most these" if early else ""
    return f"a plan computes no gradients, so it cannot know {sentence(names)}, nor whether the run diverges{told}"


def told_by_theory(scenario: Scenario, planned: Result) -> str:
    """Where a planned scenario stands in theory, in one sentence (`asyncsim.standing`); empty if its pushes were not recorded."""
    updates = planned.tables.get("updates")
    if updates is None:
        return ""
    from asyncsim.standing import standing

    counted = updates["staleness"][counts(updates["outcome"])]
    return standing(scenario.document(), counted, planned.summary["workers"])


def sentence(names: Sequence[str]) -> str:
    """``test accuracy, gap mean and penalty mean``."""
    words = [name.replace("_", " ") for name in names]
    return " and ".join(part for part in (", ".join(words[:-1]), words[-1]) if part)
