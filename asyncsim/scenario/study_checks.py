"""What may be wrong with the runs of a file taken together, each of which could be right alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from asyncsim.errors import UserError, nearest
from asyncsim.scenario.document import Document
from asyncsim.scenario.points import Point, point_label
from asyncsim.scenario.problems import shown
from asyncsim.scenario.schema import Scenario
from asyncsim.scenario.tuning import Tune


def check_hidden_by_points(points: list[Point], variants: Mapping[str, Any], changes: Mapping[str, Any], wrong: Any) -> None:
    """What sets a swept field beside the sweep would change nothing, or make a point's name a lie."""
    fields = list(dict.fromkeys(field for point in points for field in point.values))
    for field in fields:
        for path in changes:
            if path == field or path.startswith(f"{field}."):
                wrong(("sweep",), f"`{field}` is swept, so `--set {path}` would change nothing")
        for name, change in variants.items():
            for path in _leaves(change) if isinstance(change, Mapping) else ():
                if path == field or path.startswith(f"{field}."):
                    wrong(("variants", name), f"sets `{path}`, which the sweep sets as well; leave it to one of them")


def _leaves(change: Mapping[Any, Any], before: str = "") -> Iterator[str]:
    for key, value in change.items():
        path = f"{before}{key}"
        yield path
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}.")


def check_baseline(baseline: Any, variants: Mapping[str, Any], points: list[Point], wrong: Any) -> None:
    if baseline is None:
        return
    if not isinstance(baseline, Mapping):
        if str(baseline) not in variants:
            known = ", ".join(variants) or "there are none"
            message = f"must name one of the variants: {known} (it is {shown(baseline)}{nearest(str(baseline), variants)})"
            swept = any(point.values for point in points)
            wrong("baseline", message + ("; or give values of swept fields, such as `{cluster.workers: 1}`" if swept else ""))
        return
    values: dict[str, list[Any]] = {"variant": list(variants)} if variants else {}
    for point in points:
        for field, value in point.values.items():
            values.setdefault(field, []).append(value)
    for field, value in baseline.items():
        if field not in values:
            known = ", ".join(values) or "none"
            wrong(("baseline", str(field)), f"is not swept; swept fields are: {known}{nearest(str(field), values)}")
        elif value not in values[field]:
            known = ", ".join(dict.fromkeys(shown(each) for each in values[field]))
            wrong(("baseline", str(field)), f"must be one of the swept values: {known} (it is {shown(value)})")


def at_points(problem: str, indices: set[int], points: list[Point]) -> str:
    """A problem of some points only, with their names, unless it is about a swept value itself."""
    fields = list(dict.fromkeys(field for point in points for field in point.values))
    about = re.sub(r"^.*?: ", "", problem, count=1).partition(":")[0]
    own = any(about == field or about.startswith(f"{field}.") or field.startswith(f"{about}.") for field in fields)
    if len(indices) == len(points) or own:
        return problem
    names = [point_label(points[index].values, fields) for index in sorted(indices)]
    more = f" and {len(names) - 3} more points" if len(names) > 3 else ""
    return f"{problem} (at {'; '.join(names[:3])}{more})"


def check_trial(tune: Tune, scenario: Scenario, point: Point, document: Document, problems: list[str]) -> None:
    problem = tune.problem(scenario)
    if tune.field in point.values:
        problem = f"tune.field: `{tune.field}` is swept as well; leave it to one of them"
    if problem is None:
        try:
            for value in tune.grid or (tune.low, tune.high):
                tune.trial(scenario, value, 0)
        except UserError as error:
            problem = f"tune.field: {re.sub('^evolve: ', '', str(error).splitlines()[0])}"
    if problem is not None:
        problems.append(f"{document.where(tuple(problem.partition(':')[0].split('.')))}: {problem}")


def twins(built: list[tuple[Scenario, str, Point]], document: Document) -> list[str]:
    """Two points of a variant must not describe the same run."""
    seen: dict[tuple[str, str], Point] = {}
    problems = []
    for scenario, variant, point in built:
        first = seen.setdefault((variant, scenario.hash), point)
        if first is not point:
            names = [point_label(each.values, [*each.values]) for each in (first, point)]
            line = next(iter(point.lines.values()), None)
            where = document.where(("sweep",)) if line is None else f"{document.source}:{line}"
            problems.append(f"{where}: sweep: {names[0]} and {names[1]} describe the same run; leave one out")
    return problems


def hides(change: Mapping[str, Any], path: str) -> bool:
    """Does a variant's change replace whatever stands at ``path``?"""
    replaced = [key for key, value in change.items() if not isinstance(value, Mapping) or "kind" in value]
    return any(path == key or path.startswith(f"{key}.") for key in replaced)
