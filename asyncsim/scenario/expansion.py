"""One file, several runs: ``variants`` (named changes) times the points of a ``sweep`` times ``seeds``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from asyncsim.errors import UserError, first_line, nearest
from asyncsim.scenario.beside import Beside, read_beside
from asyncsim.scenario.candidates import with_candidates
from asyncsim.scenario.document import Document, plain_document
from asyncsim.scenario.merge import merged, overridden
from asyncsim.scenario.points import MOST_RUNS, Point, Sweep, expand_points, given_sweep, point_label
from asyncsim.scenario.problems import Problems, ScenarioError, shown
from asyncsim.scenario.schema import NAME, Scenario, build_scenario
from asyncsim.scenario.study import Study
from asyncsim.scenario.tuning import Tune
from asyncsim.scenario.yaml_text import Location


class _Run(NamedTuple):
    """One scenario, and what made it of the file's."""

    scenario: Scenario
    variant: str
    point: Point


def expand(
    document: Document,
    changes: Mapping[str, Any],
    folder: str | None,
    default_name: str,
    sweep: Mapping[str, Any] | None = None,
) -> Study:
    """The runs that plain data describes. ``sweep`` has ``grid``, ``zip`` and ``seeds`` beside those of the document; a change of
    ``seeds`` or ``seed`` replaces the document's seeds. Raises ``UserError`` with one line a problem."""
    changes = plain_document(Document(dict(changes), "override")).data
    sweep = plain_document(Document(dict(sweep or {}), "sweep")).data
    data = overridden(document.data, changes)
    data.setdefault("name", default_name)
    problems = Problems(document, changes)
    beside, broken = read_beside(data, problems)
    if beside.advise is not None:  # its candidates must be scenarios, whatever the file is read for
        expand(*with_candidates(document, changes), folder, default_name)
    variants = beside.variants or {}
    given = given_sweep(sweep, problems)
    points = expand_points(beside.sweep, given, problems)
    seeds = _seeds(beside, given, data.get("seed", 0), "seed" in changes)
    _refuse_hidden(points, variants, changes, problems)
    if broken <= {"baseline", "sweep.seeds", "advise", "tune", "atlas"}:  # else it is not known what it may be
        _check_baseline(beside.baseline, variants, points, problems)
    total = len(points) * max(1, len(variants)) * len(seeds)
    if total > MOST_RUNS:
        problems.wrong(("sweep",), f"describes {total:,} runs; at most {MOST_RUNS:,} are allowed")
        problems.refuse()
    runs = _build(data, variants, points, seeds, problems, folder)
    if beside.tune is not None:
        for name in set(beside.tune.others) - set(variants) if beside.atlas is None else ():  # or they are those of the atlas
            known = ", ".join(variants) or "there are none"
            problems.wrong(("tune", "others", name), f"must name one of the variants: {known}{nearest(name, variants)}")
        for run in {(run.variant, id(run.point)): run for run in runs}.values():
            _check_trial(beside.tune, run, problems)
    if not problems.lines:
        _refuse_twins(runs, problems)
    problems.refuse()
    scenarios, names, made = zip(*runs, strict=True)
    study = Study(data["name"], scenarios, names, beside.baseline, tuple(point.values for point in made), beside.tune)
    return study if not study.fields else replace(study, scenarios=tuple(map(_named, study.scenarios, study.labels)))


def _named(scenario: Scenario, label: str) -> Scenario:
    name = re.sub(rf"-{re.escape(label.partition(',')[0])}$", "", scenario.name)
    return scenario.model_copy(update={"name": f"{name}-{label}"[:100]})


def _seeds(beside: Beside, given: Sweep | None, first: Any, one: bool) -> list[Any]:
    """The seeds of all runs, ``[None]`` for the scenario's own; the command line wins over the file, and its ``seed`` (``one``)
    over the file's. ``seeds: 3`` means three from ``first`` on, the scenario's ``seed``; a list means those."""
    seeds = beside.seeds if beside.sweep is None or beside.sweep.seeds is None else beside.sweep.seeds
    if one:
        seeds = None
    if given is not None and given.seeds is not None:
        seeds = given.seeds
    if isinstance(seeds, list):
        return seeds
    return [None] if seeds is None or type(first) is not int else list(range(first, first + seeds))


def _refuse_hidden(points: list[Point], variants: Mapping[str, Any], changes: Mapping[str, Any], problems: Problems) -> None:
    """What sets a field beside a sweep or a variant that sets it as well would change nothing, or make a point's name a lie."""
    for path in changes:
        if variants and all(_hides(change, path) for change in variants.values()):
            section = path.partition(".")[0]
            problems.wrong(("variants",), f"every variant sets `{section}` itself, so `--set {path}` would change nothing")
    for field in _fields(points):
        for path in changes:
            if path == field or path.startswith(f"{field}."):
                problems.wrong(("sweep",), f"`{field}` is swept, so `--set {path}` would change nothing")
        for name, change in variants.items():
            for path in _leaves(change):
                if path == field or path.startswith(f"{field}."):
                    problems.wrong(("variants", name), f"sets `{path}`, which the sweep sets as well; leave it to one of them")


def _hides(change: Mapping[str, Any], path: str) -> bool:
    """Does a variant's change replace whatever stands at ``path``?"""
    replaced = [key for key, value in change.items() if not isinstance(value, Mapping) or "kind" in value]
    return any(path == key or path.startswith(f"{key}.") for key in replaced)


def _leaves(change: Mapping[Any, Any], before: str = "") -> Iterator[str]:
    for key, value in change.items():
        path = f"{before}{key}"
        yield path
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")


def _fields(points: list[Point]) -> list[str]:
    return list(dict.fromkeys(field for point in points for field in point.values))


def _check_baseline(baseline: Any, variants: Mapping[str, Any], points: list[Point], problems: Problems) -> None:
    if baseline is None:
        return
    if not isinstance(baseline, Mapping):
        if baseline not in variants:
            known = ", ".join(variants) or "there are none"
            message = f"must name one of the variants: {known} (it is {shown(baseline)}{nearest(baseline, variants)})"
            swept = any(point.values for point in points)
            message += "; or give values of swept fields, such as `{cluster.workers: 1}`" if swept else ""
            problems.wrong(("baseline",), message)
        return
    values: dict[str, list[Any]] = {"variant": list(variants)} if variants else {}
    for point in points:
        for field, value in point.values.items():
            values.setdefault(field, []).append(value)
    for field, value in baseline.items():
        if field not in values:
            known = ", ".join(values) or "none"
            problems.wrong(("baseline", field), f"is not swept; swept fields are: {known}{nearest(field, values)}")
        elif value not in values[field]:
            known = ", ".join(dict.fromkeys(shown(each) for each in values[field]))
            problems.wrong(("baseline", field), f"must be one of the swept values: {known} (it is {shown(value)})")


def _build(
    data: Mapping[str, Any], variants: Mapping[str, Any], points: list[Point], seeds: list[Any], problems: Problems,
    folder: str | None,
) -> list[_Run]:  # fmt: skip
    """All runs, in the order of the file; ``problems`` notes those that are wrong, each once, with the points that have it."""
    document = problems.document
    runs: list[_Run] = []
    found: dict[str, set[int]] = {}  # problem: the points that have it
    choices: list[tuple[str | None, Any]] = [*variants.items()] or [(None, {})]
    for variant, change in choices:
        for index, point in enumerate(points):
            for seed in seeds:
                try:
                    scenario = _one(data, variant, change, point, seed, problems, folder)
                    runs.append(_Run(scenario, data["name"] if variant is None else variant, point))
                except ScenarioError as error:
                    for problem in error.problems:
                        problem = re.sub(r"(unknown field.*) \(it is .*\)$", r"\1", problem)  # whatever value it is given
                        found.setdefault(problem, set()).add(index)
                except UserError as error:
                    place = ("variants", variant) if variant is not None else ("sweep",)
                    found.setdefault(f"{document.where(place)}: {'.'.join(place)}: {error}", set()).add(index)
    problems.lines += [_at(problem, indices, points) for problem, indices in found.items()]
    return runs


def _one(
    data: Mapping[str, Any], variant: str | None, change: Mapping[str, Any], point: Point, seed: Any, problems: Problems,
    folder: str | None,
) -> Scenario:  # fmt: skip
    """One run of the file; places in it have the lines of what set them last."""
    document = problems.document
    lines = dict(document.own_lines)
    if variant is not None:
        for location, line in document.under.get(("variants", variant), {}).items():
            if len(location) > 2:
                place: Location = tuple(part for name in location[2:] for part in str(name).split("."))
                lines |= {place[:length]: line for length in range(2, len(place))} | {place: line}
        name = data["name"]
        fits = isinstance(name, str) and re.fullmatch(NAME, name)  # otherwise the scenario says what is wrong with it
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
    return build_scenario(Document(dict(data), document.source, lines), (*problems.overridden, *point.given), folder)


def _at(problem: str, indices: set[int], points: list[Point]) -> str:
    """A problem of some points only, with their names, unless it is about a swept value itself."""
    fields = _fields(points)
    about = re.sub(r"^.*?: ", "", problem, count=1).partition(":")[0]
    own = any(about == field or about.startswith(f"{field}.") or field.startswith(f"{about}.") for field in fields)
    if len(indices) == len(points) or own:
        return problem
    names = [point_label(points[index].values, fields) for index in sorted(indices)]
    more = f" and {len(names) - 3} more points" if len(names) > 3 else ""
    return f"{problem} (at {'; '.join(names[:3])}{more})"


def _check_trial(tune: Tune, run: _Run, problems: Problems) -> None:
    """Note why the run cannot be tuned like that, if so."""
    inside = ("tune", "others", run.variant) if run.variant in tune.others else ("tune",)
    tune = tune.of(run.variant)
    problem = tune.problem(run.scenario)
    if tune.field in run.point.values:
        problem = f"tune.field: `{tune.field}` is swept as well; leave it to one of them"
    if problem is None:
        try:
            for value in tune.grid or [end for end in (tune.low, tune.high) if end is not None]:
                tune.trial(run.scenario, value, 0)
        except UserError as error:
            problem = f"tune.field: {re.sub('^evolve: ', '', first_line(error))}"
    if problem is not None:
        place, _, message = problem.partition(": ")
        problems.wrong((*inside, *place.split(".")[1:]), message)


def _refuse_twins(runs: list[_Run], problems: Problems) -> None:
    """Two points of a variant must not describe the same run."""
    document = problems.document
    seen: dict[tuple[str, str], Point] = {}
    for scenario, variant, point in runs:
        first = seen.setdefault((variant, scenario.hash), point)
        if first is not point:
            names = [point_label(each.values, [*each.values]) for each in (first, point)]
            line = next(iter(point.lines.values()), None)
            where = document.where(("sweep",)) if line is None else f"{document.source}:{line}"
            problems.lines.append(f"{where}: sweep: {names[0]} and {names[1]} describe the same run; leave one out")
