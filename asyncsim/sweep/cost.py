"""Estimate what a study will cost before it runs: gradients are counted on short timelines, and times are measured on short
runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import NamedTuple

from asyncsim.assembling import foreseen
from asyncsim.run import plan, reusable, simulate
from asyncsim.scenario import Scenario, Study
from asyncsim.simulation.length import Evaluation, RunLength
from asyncsim.sweep.runner import run_folder
from asyncsim.sweep.tune import trials_of, tuned_study

MOST_PLANS = 64
"""The largest number of points whose timelines are simulated. If there are more, so many of them, evenly spread, stand for all.
"""
MOST_TIMED = 6
"""The largest number of different kinds of work that are timed."""
ENOUGH = 0.2
"""The number of seconds that a timed stretch should take."""


class Cost(NamedTuple):
    """``finished`` of the ``runs`` are there already; the rest computes about ``gradients`` gradients (at most, where a target
    may end runs early), in about ``seconds`` of wall time on one process. ``seconds`` is None if nothing was timed."""

    runs: int
    finished: int
    gradients: int
    stops_early: bool
    seconds: float | None = None


class Forecast(NamedTuple):
    """Everything that `simulate_sweep` will do: the cost of the ``runs``, the number of ``trials`` of a tuned study and how many
    of them are ``tried`` already, and ``seconds`` of wall time on one process for all that is left."""

    runs: Cost
    trials: int
    tried: int
    seconds: float


class Speed(NamedTuple):
    """Wall seconds to begin and end a run, for a gradient, and for an evaluation."""

    run: float
    gradient: float
    evaluation: float


def forecast(study: Study, out: Path | None = None, force: bool = False) -> Forecast:
    """Estimate the cost of a study with its trials and, unless ``tune.common`` is false, the runs at the common value. Once
    all trials are there, what they chose is known, and runs of it that are finished are counted. Raises ``UserError``."""
    known: dict[str, Speed] = {}
    tune = study.tune
    if tune is None:
        runs = estimate(study, out, force, known=known)
        return Forecast(runs, 0, 0, runs.seconds or 0.0)
    total, trials = tune.trials_each * len(set(study.labels)), trials_of(study)
    cost = None if trials is None else estimate(trials, out, force, known=known)
    runs = estimate(study, out, force, known=known)
    each = (runs.seconds or 0.0) / max(1, runs.runs - runs.finished)
    seconds = (runs.seconds or 0.0) if tune.common else 0.0
    seconds += total * each if cost is None else cost.seconds or 0.0
    chosen = runs
    if cost is not None and cost.finished == cost.runs and out is not None:
        tried = tuned_study(study, lambda part: [reusable(one, run_folder(out, part, k)) for k, one in enumerate(part.scenarios)])
        left = [k for k in range(len(study)) if k not in tried.undecided]
        chosen = estimate(tried.study.of(left), out, force, known=known) if left else runs._replace(seconds=0.0)
    shown = runs if tune.common else chosen
    return Forecast(shown, total, 0 if cost is None else cost.finished, seconds + (chosen.seconds or 0.0))


def estimate(
    study: Study, out: Path | None = None, force: bool = False, measured: bool = True, known: dict[str, Speed] | None = None
) -> Cost:
    """Estimate the cost of the runs that are not finished in ``out``. ``known`` has what was timed already, and takes what is
    timed now. Raises ``UserError`` if a timed run cannot be done (for lack of data)."""
    todo = [
        index
        for index, scenario in enumerate(study.scenarios)
        if force or out is None or reusable(scenario, run_folder(out, study, index)) is None
    ]
    early = any(each.run.target is not None and each.run.target.stop for each in study.scenarios)
    if not todo:
        return Cost(len(study), len(study), 0, early, 0.0)
    counts = _counts(study, todo)
    total = sum(counts.get(study.labels[index], sum(counts.values()) / len(counts)) for index in todo)
    cost = Cost(len(study), len(study) - len(todo), round(total), early)
    if not measured:
        return cost
    kinds: dict[str, list[int]] = {}
    for index in todo:
        kinds.setdefault(_kind(study.scenarios[index]), []).append(index)
    speeds = {} if known is None else known
    for kind, members in kinds.items():
        if kind not in speeds and len(speeds) < MOST_TIMED:
            speeds[kind] = _timed(study.scenarios[members[len(members) // 2]])
    mean = Speed(*(sum(column) / len(speeds) for column in zip(*speeds.values(), strict=True)))
    seconds = 0.0
    for kind, members in kinds.items():
        speed = speeds.get(kind, mean)
        for index in members:
            gradients = counts.get(study.labels[index], total / len(todo))
            seconds += speed.run + speed.gradient * gradients + speed.evaluation * _evaluations(study.scenarios[index])
    return cost._replace(seconds=seconds)


def gradients_of(scenario: Scenario) -> float:
    """The approximate number of gradients that a run computes, from a short stretch of its timeline, or from the means of its
    delays where the timeline alone does not tell. It needs no torch."""
    bundle = scenario.bundle()
    batches = bundle.program.batches
    if bundle.decided_by_values:
        return foreseen(scenario).pushes * batches
    stretch = scenario.task.batch * batches * max(200, 2 * scenario.cluster.num_workers)
    length = scenario.run
    short = scenario.model_copy(
        update={"run": RunLength(samples=min(stretch, length.samples or stretch)), "evaluate": Evaluation()}
    )
    summary = plan(short).summary
    pushes = [
        summary["pushes"] * whole / part
        for whole, part in (
            (length.updates, summary["updates"]),
            (length.samples, summary["samples"]),
            (length.time, summary["time"]),
        )
        if whole is not None and part
    ]
    return min(pushes) * batches if pushes else 0.0


def _counts(study: Study, todo: list[int]) -> dict[str, float]:
    first: dict[str, int] = {}
    for index in todo:
        first.setdefault(study.labels[index], index)
    labels = list(first)
    step = max(1, -(-len(labels) // MOST_PLANS))
    return {label: gradients_of(study.scenarios[first[label]]) for label in labels[::step]}


def _kind(scenario: Scenario) -> str:
    """The settings that decide how long a gradient takes."""
    document = scenario.document()
    return json.dumps([document.get(key) for key in ("task", "engine", "device", "dtype", "threads")], sort_keys=True)


def _evaluations(scenario: Scenario) -> float:
    cadence, length = scenario.evaluate.against(scenario.run), scenario.run
    for name in ("updates", "samples", "time"):
        every, whole = getattr(cadence, name), getattr(length, name)
        if every and whole:
            return whole / every + 1
    return 40.0


def _timed(scenario: Scenario) -> Speed:
    """From short runs: the second of two equal ones, a longer one, and one that evaluates at every update."""

    def seconds(pushes: int, every: int | None = None) -> tuple[float, float, int]:
        samples = pushes * scenario.task.batch * scenario.bundle().program.batches
        cadence = Evaluation(updates=every or 10**9, splits=scenario.evaluate.splits)
        short = scenario.model_copy(update={"run": RunLength(samples=samples), "evaluate": cadence})
        started = time.perf_counter()
        result = simulate(short)
        return time.perf_counter() - started, max(1, result.summary["gradients_computed"]), len(result.metrics)

    fewest = 2 * max(1, min(scenario.cluster.num_workers, 32))
    seconds(2)
    base = seconds(2)
    for pushes in (fewest, 10 * fewest, 100 * fewest):
        longer = seconds(pushes)
        if longer[0] - base[0] > ENOUGH:
            break
    gradient = max(0.0, longer[0] - base[0]) / max(1, longer[1] - base[1])
    often = seconds(fewest, every=1)
    evaluation = max(0.0, often[0] - base[0] - gradient * (often[1] - base[1])) / max(1, often[2] - base[2])
    return Speed(max(0.0, base[0] - gradient * base[1]), gradient, evaluation)
