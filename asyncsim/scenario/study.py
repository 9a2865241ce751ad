"""A study: several runs from one file, as ``variants`` (named changes) times the points of a ``sweep`` times ``seeds``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError
from asyncsim.scenario.document import Document, parse_value, plain_document, read_document
from asyncsim.scenario.merge import merged
from asyncsim.scenario.points import MOST_RUNS, Point, expand_points, point_label
from asyncsim.scenario.problems import ScenarioError, origin, shown
from asyncsim.scenario.schema import NAME, NAME_RULE, Scenario, build_scenario
from asyncsim.scenario.study_checks import at_points, check_baseline, check_hidden_by_points, check_trial, hides, twins
from asyncsim.scenario.tuning import Tune, build_tune

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Study:
    """Runs that belong together, ordered by variant, point and seed, as in the file."""

    name: str
    scenarios: tuple[Scenario, ...]
    variants: tuple[str, ...]  # of each scenario; the study's own name where the file has no variants
    baseline: str | Mapping[str, Any] | None = None  # the variant, or the values of swept fields, that speed-ups are against
    points: tuple[Mapping[str, Any], ...] = ()  # of each scenario: the swept fields and their values
    tune: Tune | None = None

    def __post_init__(self) -> None:
        if not self.points:
            object.__setattr__(self, "points", ({},) * len(self.scenarios))

    def __len__(self) -> int:
        return len(self.scenarios)

    @property
    def fields(self) -> list[str]:
        """The swept fields, in the order of the file."""
        return list(dict.fromkeys(field for point in self.points for field in point))

    @property
    def several(self) -> bool:
        """Is this a sweep, even if it has only one run?"""
        return len(self) > 1 or any(self.points) or self.tune is not None

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A name for each scenario's variant and point; scenarios that differ only in their seed share it."""
        fields = self.fields
        several = len(set(self.variants)) > 1 or any(variant != self.name for variant in self.variants)
        taken: dict[str, tuple[str, str]] = {}
        labels = []
        for variant, point in zip(self.variants, self.points, strict=True):
            words = ([variant] if several or not point else []) + ([point_label(point, fields)] if point else [])
            key = (variant, repr(point))
            label, number = (first := ",".join(words)), 1
            while taken.setdefault(label, key) != key:
                number += 1
                label = f"{first}.{number}"
            labels.append(label)
        return tuple(labels)


def load_scenario(path: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """The only scenario in a file, with ``changes`` applied (dotted paths are allowed). Raises ``UserError``, also if there are
    several."""
    study = load_study(path, changes)
    if len(study) != 1:
        raise UserError(f"{path}: describes {len(study)} runs; read it with load_study")
    return study.scenarios[0]


def load_study(path: str | Path, changes: Mapping[str, Any] | None = None, sweep: Mapping[str, Any] | None = None) -> Study:
    """All runs of a file, validated together. ``sweep`` may have ``grid``, ``zip`` and ``seeds`` in addition to those of the
    file.

    Raises ``UserError`` with one line for each problem.
    """
    document = read_document(path)
    return expand(document, changes or {}, str(Path(path).resolve().parent), Path(path).stem, sweep)


def expand(
    document: Document,
    changes: Mapping[str, Any],
    folder: str | None,
    default_name: str,
    sweep: Mapping[str, Any] | None = None,
) -> Study:
    """The runs that plain data describes. A change of ``seeds`` or ``seed`` replaces the file's seeds."""
    changes = plain_document(Document(dict(changes), "override")).data
    sweep = plain_document(Document(dict(sweep or {}), "sweep")).data
    try:
        data = merged(document.data, changes)
    except UserError as error:
        raise UserError(f"override: {error}") from None
    variants, baseline, tune = data.pop("variants", None), data.pop("baseline", None), data.pop("tune", None)
    section = data.pop("sweep", None)
    if data.pop("advise", None) is not None:
        _check_candidates(document, changes, folder, default_name)
    data.setdefault("name", default_name)
    problems: list[str] = []

    def wrong(place: str | tuple[str, ...], message: str) -> None:
        place = (place,) if isinstance(place, str) else place
        if place[0].startswith("--"):
            problems.append(f"{place[0]} {place[1]}: {message}")
        else:
            problems.append(f"{origin(place, document, tuple(changes))}: {'.'.join(place)}: {message}")

    if variants is not None and (not isinstance(variants, dict) or not variants):
        wrong("variants", f"must be a mapping from names to changes, such as `a: {{method: asgd}}` (it is {shown(variants)})")
        variants = None
    variants = {str(name): change for name, change in (variants or {}).items()}
    for path in changes:
        if variants and all(isinstance(change, Mapping) and hides(change, path) for change in variants.values()):
            wrong("variants", f"every variant sets `{path.partition('.')[0]}` itself, so `--set {path}` would change nothing")
    points = expand_points(section, sweep, document, wrong)
    seed_list = _all_seeds(data, section, changes, sweep, wrong)
    check_hidden_by_points(points, variants, changes, wrong)
    check_baseline(baseline, variants, points, wrong)
    total = len(points) * max(1, len(variants)) * len(seed_list or [None])
    if total > MOST_RUNS:
        raise ScenarioError(
            [*problems, f"{document.where(('sweep',))}: describes {total:,} runs; at most {MOST_RUNS:,} are allowed"]
        )
    built, wrong_runs = _build(document, data, variants, points, seed_list or [None], tuple(changes), folder)
    problems += wrong_runs
    tuned = None if tune is None else _tuned(tune, document, tuple(changes), built, problems)
    if not problems:
        problems += twins(built, document)
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)))
    study = Study(
        data["name"], *zip(*((scenario, variant) for scenario, variant, _ in built), strict=True), _plain_baseline(baseline),
        tuple(point.values for _, _, point in built), tuned,
    )  # fmt: skip
    return study if not study.fields else replace(study, scenarios=tuple(map(_named, study.scenarios, study.labels)))


def _build(
    document: Document, data: Mapping[str, Any], variants: Mapping[str, Any], points: list[Point], seeds: list[Any],
    overridden: tuple[str, ...], folder: str | None,
) -> tuple[list[tuple[Scenario, str, Point]], list[str]]:  # fmt: skip
    """The scenarios, each with its variant's name and its point; and what is wrong with those that cannot be."""
    built: list[tuple[Scenario, str, Point]] = []
    found: dict[str, set[int]] = {}  # problem -> the points that have it
    for variant, change in (variants or {None: {}}).items():
        for index, point in enumerate(points):
            for seed in seeds:
                try:
                    scenario = _one(document, data, variant, change, point, seed, overridden, folder)
                    built.append((scenario, data["name"] if variant is None else variant, point))
                except ScenarioError as error:
                    for problem in error.problems:
                        problem = re.sub(r"(unknown field.*) \(it is .*\)$", r"\1", problem)  # whatever value the tuning gives it
                        found.setdefault(problem, set()).add(index)
                except UserError as error:
                    place = ("variants", variant) if variant is not None else ("sweep",)
                    found.setdefault(f"{document.where(place)}: {'.'.join(place)}: {error}", set()).add(index)
    return built, [at_points(problem, indices, points) for problem, indices in found.items()]


def _tuned(
    tune: Any, document: Document, overridden: tuple[str, ...], built: list[tuple[Scenario, str, Point]], problems: list[str]
) -> Tune | None:
    """The section ``tune``, if it fits every variant and point."""
    try:
        tuned = build_tune(tune, document, overridden)
    except ScenarioError as error:
        problems += error.problems
        return None
    for scenario, _, point in {(variant, id(point)): entry for entry in built for _, variant, point in [entry]}.values():
        check_trial(tuned, scenario, point, document, problems)
    return tuned


def _check_candidates(document: Document, changes: Mapping[str, Any], folder: str | None, default_name: str) -> None:
    """Check that the candidates of a section ``advise`` are valid scenarios, whatever the file is read for."""
    from asyncsim.scenario.candidates import with_candidates

    expand(with_candidates(document), changes, folder, default_name)


def _named(scenario: Scenario, label: str) -> Scenario:
    name = re.sub(rf"-{re.escape(label.partition(',')[0])}$", "", scenario.name)
    return scenario.model_copy(update={"name": f"{name}-{label}"[:100]})


def _all_seeds(
    data: dict[str, Any], section: Any, changes: Mapping[str, Any], sweep: Mapping[str, Any], wrong: Any
) -> list[Any] | None:
    """The seeds of all runs, taken out of ``data``; the command line wins over the file, and its ``seed`` over everything."""
    top, inner = data.pop("seeds", None), section.get("seeds") if isinstance(section, Mapping) else None
    seeds, place = (top, ("seeds",)) if inner is None else (inner, ("sweep", "seeds"))
    if top is not None and inner is not None:
        wrong(("sweep", "seeds"), "`seeds` stands outside of `sweep` too; keep one")
    if "seed" in changes:
        seeds = None
    if "seeds" in sweep:
        seeds, place = sweep["seeds"], ("--seeds", shown(sweep["seeds"]))
    seed_list = _seeds(seeds, data.get("seed", 0))
    if seed_list is None:
        wrong(place, f"must be a count from 1 to {MOST_SEEDS:,} or a list of different whole numbers (it is {shown(seeds)})")
    return seed_list


def _plain_baseline(baseline: Any) -> str | dict[str, Any] | None:
    return dict(baseline) if isinstance(baseline, Mapping) else None if baseline is None else str(baseline)


def _one(
    document: Document,
    data: Mapping[str, Any],
    variant: Any,
    change: Any,
    point: Point,
    seed: Any,
    overridden: tuple[str, ...],
    folder: str | None,
) -> Scenario:
    lines = dict(document.own_lines)
    if variant is not None:
        if not isinstance(change, Mapping):
            raise UserError(f"must be a mapping of changes, such as `{{method: gap_aware}}` (it is {shown(change)})")
        if not re.fullmatch(NAME, variant):
            raise UserError(f"a variant's name {NAME_RULE}")
        prefix = ("variants", variant)
        for location, line in document.under.get(prefix, {}).items():
            if len(location) > 2:
                place = tuple(part for name in location[2:] for part in name.split("."))
                lines |= {place[:length]: line for length in range(2, len(place))} | {place: line}
        name = data["name"]
        fits = isinstance(name, str) and re.fullmatch(NAME, name)  # otherwise validating the scenario reports the problem
        data = merged(data, change) | {"name": f"{name}-{variant}" if fits else name}
    if point.values:
        data = merged(data, point.values)
        for field, line in point.lines.items():
            place = tuple(field.split("."))
            lines = {other: at for other, at in lines.items() if other[: len(place)] != place} | {place: line}
            for length in range(1, len(place)):
                lines.setdefault(place[:length], line)
    if seed is not None:
        data = {**data, "seed": seed}
    return build_scenario(Document(dict(data), document.source, lines), (*overridden, *point.given), folder)


def _seeds(seeds: Any, seed: Any) -> list[Any] | None:
    """``seeds: 3`` means three seeds from ``seed`` on; a list means those. None if it is neither."""
    if seeds is None:
        return [None]
    if isinstance(seeds, list):
        whole = all(isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < 2**63 for entry in seeds)
        return seeds if whole and 0 < len(seeds) == len(set(seeds)) <= MOST_SEEDS else None
    if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= MOST_SEEDS:
        return None
    return list(range(seed, seed + seeds)) if type(seed) is int else [None]  # validating the scenario reports a wrong seed


def parse_changes(assignments: list[str]) -> dict[str, Any]:
    """``["a.b=c", ...]`` as a mapping; values are read as YAML."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path.strip() or any(not part for part in path.strip().split(".")):
            raise UserError(f"--set {assignment}: must be field=value, such as cluster.workers=32")
        changes[path.strip()] = parse_value(value)
    return changes
