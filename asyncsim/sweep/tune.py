"""Choose a field, such as the learning rate, for every variant and point on the validation split."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from asyncsim.records import Result
from asyncsim.scenario import Scenario, Study
from asyncsim.scenario.tuning import Tune
from asyncsim.sweep.runner import missing
from asyncsim.sweep.table import plain

Run = Callable[[Study], Sequence[Result | None]]


class Trial(NamedTuple):
    """A value that was tried, and the mean of the metric over the trial's seeds; it is infinitely bad if one of them diverged
    or failed."""

    value: float
    score: float


class Tuned(NamedTuple):
    """``study`` at the values that validation chose, the table of ``choices``, and the ``undecided``: indices of the scenarios
    for which nothing could be chosen, as every trial diverged or failed. They stand in the study at their own value, and are not
    to be run: a result there would look like one of a chosen value."""

    study: Study
    choices: pd.DataFrame
    undecided: tuple[int, ...]


def tuned_study(study: Study, run: Run) -> Tuned:
    """Choose for every variant and point; ``run`` does the trials of all methods at once."""
    tune = study.tune
    assert tune is not None
    labels = list(dict.fromkeys(study.labels))
    trials = _on_grid(study, tune, labels, run) if tune.sampler == "grid" else _by_optuna(study, tune, labels, run)
    best = {label: _best(tune, trials[label]) for label in labels}
    scenarios = tuple(
        scenario if (chosen := best[label]) is None else scenario.evolve({tune.of(variant).field: chosen.value})
        for scenario, variant, label in zip(study.scenarios, study.variants, study.labels, strict=True)
    )
    undecided = tuple(index for index, label in enumerate(study.labels) if best[label] is None)
    return Tuned(replace(study, scenarios=scenarios), _choices(study, tune, labels, trials, best), undecided)


def trials_of(study: Study) -> Study | None:
    """The trials of a study that is tuned on a grid; None where Optuna will say what is tried."""
    tune = study.tune
    if tune is None or tune.sampler != "grid":
        return None
    return _trials(study, tune, _grid(study, tune, list(dict.fromkeys(study.labels))))


def _on_grid(study: Study, tune: Tune, labels: list[str], run: Run) -> dict[str, list[Trial]]:
    scores = _scores(study, tune, _grid(study, tune, labels), run)
    size = len(tune.grid)
    return {label: scores[first * size : (first + 1) * size] for first, label in enumerate(labels)}


def _grid(study: Study, tune: Tune, labels: list[str]) -> list[tuple[str, float]]:
    """The values that each variant and point tries, in the order of the file."""
    variants = dict(zip(study.labels, study.variants, strict=True))
    return [(label, value) for label in labels for value in tune.of(variants[label]).grid]


def _by_optuna(study: Study, tune: Tune, labels: list[str], run: Run) -> dict[str, list[Trial]]:
    """Choose with Optuna's TPE: one sampler for each method, all with the same seed. Each round asks every method for one
    value."""
    try:
        import optuna
    except ImportError:
        raise missing("tune", "Optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    direction = "maximize" if tune.maximise else "minimize"
    searches = {
        label: optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=0)) for label in labels
    }  # fmt: skip
    variants = dict(zip(study.labels, study.variants, strict=True))
    tunes = [tune.of(variants[label]) for label in labels]
    trials: dict[str, list[Trial]] = {label: [] for label in labels}
    for _ in range(tune.trials):
        asked = [searches[label].ask() for label in labels]
        values = [
            trial.suggest_float(each.field, each.low, each.high, log=each.log)
            for trial, each in zip(asked, tunes, strict=True)
        ]
        for label, trial, done in zip(
            labels, asked, _scores(study, tune, list(zip(labels, values, strict=True)), run), strict=True
        ):
            trials[label].append(done)
            worst = -1e300 if tune.maximise else 1e300
            searches[label].tell(trial, done.score if math.isfinite(done.score) else worst)
    return trials


def _scores(study: Study, tune: Tune, wanted: list[tuple[str, float]], run: Run) -> list[Trial]:
    """One trial for each (label, value), in their order."""
    results = run(_trials(study, tune, wanted))
    worst = -math.inf if tune.maximise else math.inf
    trials = []
    for place, (_, value) in enumerate(wanted):
        mine = results[place * tune.seeds : (place + 1) * tune.seeds]
        values = [number for result in mine if (number := _metric(result, tune.metric)) is not None]
        trials.append(Trial(value, worst if len(values) < len(mine) else float(np.mean(values))))
    return trials


def _trials(study: Study, tune: Tune, wanted: list[tuple[str, float]]) -> Study:
    """The runs of the trials: the seeds of each (label, value), in their order."""
    first = {label: index for index, label in reversed(list(enumerate(study.labels)))}
    runs = [(first[label], value, seed) for label, value in wanted for seed in range(tune.seeds)]
    variants = tuple(study.variants[index] for index, _, _ in runs)
    tunes = [tune.of(variant) for variant in variants]
    return Study(
        f"{study.name}/tune",
        tuple(each.trial(study.scenarios[index], value, seed) for each, (index, value, seed) in zip(tunes, runs, strict=True)),
        variants, None,
        tuple({**study.points[index], each.field: value} for each, (index, value, _) in zip(tunes, runs, strict=True)),
    )  # fmt: skip


def _metric(result: Result | None, metric: str) -> float | None:
    return None if result is None or result.summary["status"] == "diverged" else result.summary.get(metric)


def _best(tune: Tune, trials: list[Trial]) -> Trial | None:
    """The best trial; None if no value gave a number."""
    usable = [trial for trial in trials if math.isfinite(trial.score)]
    return None if not usable else (max if tune.maximise else min)(usable, key=lambda trial: trial.score)


def value_of(scenario: Scenario, field: str) -> Any:
    """The value of a scenario's field at a dotted path."""
    place: Any = scenario.document()
    for part in field.split("."):
        place = place.get(part) if isinstance(place, dict) else None
    return place


def _choices(
    study: Study, tune: Tune, labels: list[str], trials: dict[str, list[Trial]], best: dict[str, Trial | None]
) -> pd.DataFrame:  # fmt: skip
    """A table with one row for each variant and point: the common and the chosen value, its score, whether it is at the edge of
    what was tried, and all trials. ``chosen`` is NaN (empty in the file) where every trial diverged or failed."""
    rows = []
    for label in labels:
        index = study.labels.index(label)
        field = tune.of(study.variants[index]).field
        common, chosen = value_of(study.scenarios[index], field), best[label]
        tried = sorted(trial.value for trial in trials[label])
        rows.append({
            "variant": study.variants[index], **{swept: plain(study.points[index].get(swept)) for swept in study.fields},
            "field": field, "common": common, "chosen": math.nan if chosen is None else chosen.value,
            tune.metric: math.nan if chosen is None else chosen.score,
            "at_edge": chosen is not None and len(tried) > 1 and chosen.value in (tried[0], tried[-1]),
            "tried": "; ".join(f"{trial.value:.6g}: {trial.score:.6g}" for trial in trials[label]),
        })  # fmt: skip
    return pd.DataFrame(rows)
