"""An atlas as a study: its methods are the variants, its conditions and worker counts the points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any, NamedTuple

from asyncsim.errors import UserError, nearest
from asyncsim.methods import Bundle
from asyncsim.methods.method import methods
from asyncsim.needs import Need
from asyncsim.policies import SGD
from asyncsim.scenario.atlas import EVERY, WORKERS, Atlas
from asyncsim.scenario.beside import read_beside
from asyncsim.scenario.document import Document
from asyncsim.scenario.expansion import expand
from asyncsim.scenario.merge import merged, overridden
from asyncsim.scenario.problems import Problems, ScenarioError
from asyncsim.scenario.schema import Scenario, build_scenario
from asyncsim.scenario.study import Study
from asyncsim.scenario.tuning import Tune
from asyncsim.scenario.yaml_text import Location

SEEDS = 3
"""Seeds of every cell, where the file does not say."""
EXAMPLE = "`atlas: {methods: all, workers: [4, 16], conditions: {homogeneous: {}, slow: {cluster.uplink.latency: 2s}}}`"
CONDITION = "condition"
Place = tuple[str, int]
"""A condition and a worker count: the cells of one column."""


class LeftOut(NamedTuple):
    """A method that does not fit some places of an atlas, or (``everywhere``) any of them, and why."""

    method: str
    places: tuple[Place, ...]
    everywhere: bool
    reason: str


class AtlasStudy(NamedTuple):
    """The ``study`` of an atlas, whose points have a ``condition`` and ``cluster.workers``; its ``places`` in the file's order,
    the ``conditions`` as they are written, and what of ``methods: all`` is ``left_out``."""

    study: Study
    places: tuple[Place, ...]
    conditions: Mapping[str, Mapping[str, Any]]
    left_out: tuple[LeftOut, ...]


class _Cells(NamedTuple):
    """What the cells of an atlas are made of. ``variants`` are the changes of each method, ``asked`` those methods that the file
    itself names: these have to fit. ``listed`` are the places in the list of methods, if it is one."""

    document: Document
    rest: dict[str, Any]
    data: dict[str, Any]
    folder: str | None
    points: dict[Place, dict[str, Any]]
    variants: dict[str, dict[str, Any]]
    asked: frozenset[str]
    listed: dict[str, str]


def atlas_study(
    document: Document, changes: Mapping[str, Any], folder: str | None, default_name: str,
    given: Mapping[str, Any] | None = None,
) -> AtlasStudy:  # fmt: skip
    """The atlas that plain data describes; ``given`` has ``seeds`` of the command line. Raises ``UserError`` with one line a
    problem: of the file, of a method that the file names, or of a place that no method fits."""
    inside = {path: value for path, value in changes.items() if path.partition(".")[0] == "atlas"}
    rest = {path: value for path, value in changes.items() if path not in inside}
    data = overridden(document.data, inside)
    problems = Problems(document, changes)
    beside, _ = read_beside(overridden(data, rest), problems)
    problems.refuse()
    atlas, tune = beside.atlas, beside.tune
    if atlas is None:
        raise UserError(f"{document.source}: has no section `atlas`; write for example {EXAMPLE}")
    if tune is None:
        problems.wrong(("atlas",), "compares methods at rates that validation chose: give `tune: {grid: [0.01, 0.03, 0.1]}` too")
    problems.refuse()
    assert tune is not None
    variants, asked = _variants(atlas, tune, problems)
    local = [name for name, change in variants.items() if _is_local(change.get("method"), atlas.workers)]
    for name in local:
        variants[name] = merged({"optimizer": atlas.local.optimizer}, variants[name])
    del data["atlas"]
    data.setdefault("seeds", SEEDS)
    points = {
        (name, count): {**change, WORKERS: count} for (name, change), count in product(atlas.conditions.items(), atlas.workers)
    }
    plain = {key: value for key, value in overridden(data, rest).items() if key not in type(beside).model_fields}
    plain.setdefault("name", default_name)
    listed = {name: str(index) for index, name in enumerate(atlas.methods)} if isinstance(atlas.methods, list) else {}
    cells = _Cells(Document(data, document.source, document.lines), rest, plain, folder, points, variants, asked, listed)
    fits, left_out = _fitting(cells)
    own = {name: {key: value for key, value in atlas.local if key != "optimizer"} for name in local}
    own |= {name: {**own.get(name, {}), **other.model_dump(exclude_none=True)} for name, other in tune.others.items()}
    own = {name: other for name, other in own.items() if name in fits}
    found: dict[tuple[str, Place], list[Scenario]] = {}
    for places in dict.fromkeys(fits.values()):
        group = [name for name, fit in fits.items() if fit == places]
        found |= _expanded(cells, group, places, {name: own[name] for name in group if name in own}, given, default_name)
    order = [(name, place) for name in fits for place in points if (name, place) in found]
    whole = tune.model_copy(update={"others": Tune.model_validate({**tune.settings(), "others": own}).others})
    study = Study(
        plain["name"],
        tuple(scenario for key in order for scenario in found[key]),
        tuple(name for name, place in order for _ in found[name, place]), None,
        tuple({CONDITION: place[0], WORKERS: place[1]} for name, place in order for _ in found[name, place]), whole,
    )  # fmt: skip
    return AtlasStudy(_named(study), tuple(points), atlas.conditions, tuple(left_out))


def _variants(atlas: Atlas, tune: Tune, problems: Problems) -> tuple[dict[str, dict[str, Any]], frozenset[str]]:
    """The changes of every method, and the names of those that the file itself names."""
    settings = atlas.changes or {}
    names = methods.names() if atlas.methods == EVERY else list(atlas.methods)
    for place, named in ((("atlas", "changes"), settings), (("tune", "others"), tune.others)):
        for name in named:
            if name not in names:
                problems.wrong((*place, name), f"is none of the methods here: {', '.join(names)}{nearest(name, names)}")
    problems.refuse()
    written = atlas.methods if isinstance(atlas.methods, dict) else {name: {"method": name} for name in names}
    asked = frozenset(settings if atlas.methods == EVERY else names)
    return {name: merged(written[name], settings.get(name, {})) for name in names}, asked


def _is_local(value: Any, workers: list[int]) -> bool:
    """Do the workers of a method take steps at a rate of their own? What is wrong with it is told later."""
    try:
        return Need.LOCAL_RATE in methods.parse(value).bundle(max(workers), SGD()).needs
    except (ValueError, UserError):
        return False


def _fitting(cells: _Cells) -> tuple[dict[str, tuple[Place, ...]], list[LeftOut]]:
    """The places that each method fits, in the order of the file, and what does not fit. A method that the file names is taken
    to fit everywhere."""
    fits: dict[str, tuple[Place, ...]] = {}
    left_out: list[LeftOut] = []
    seen: dict[Place, dict[str, Bundle]] = {place: {} for place in cells.points}
    for name, change in cells.variants.items():
        reasons = {} if name in cells.asked else {place: _misfit(cells, name, change, place, seen[place]) for place in seen}
        fit = tuple(place for place in cells.points if reasons.get(place) is None)
        if fit:
            fits[name] = fit
        for reason in dict.fromkeys(each for each in reasons.values() if each is not None):
            places = tuple(place for place, each in reasons.items() if each == reason)
            left_out.append(LeftOut(name, places, not fit, reason))
    empty = [place for place in cells.points if not any(place in fit for fit in fits.values())]
    if empty:  # then it is the file that is wrong, not every method
        _expanded(cells, [], tuple(empty), {}, None, "atlas")
        raise UserError(f"{cells.document.where(('atlas',))}: atlas: no method fits {empty[0][0]} with {empty[0][1]} workers")
    return fits, left_out


def _misfit(cells: _Cells, name: str, change: dict[str, Any], place: Place, seen: dict[str, Bundle]) -> str | None:
    """Why a method does not fit a place of an atlas; None if it does. ``seen`` has the parts of those before it there."""
    try:
        data = merged(merged(cells.data, change), cells.points[place])
        scenario = build_scenario(Document(data, name), (), cells.folder)
    except ScenarioError as error:
        return error.problems[0].partition(": ")[2]
    except UserError as error:
        return str(error)
    bundle = scenario.bundle()
    if scenario.stages.count == 1 and Need.CUTS in bundle.needs:
        return "computes a model in stages, and this one is whole (`stages.count` is 1)"
    twin = next((other for other, parts in seen.items() if parts == bundle), None)
    if twin is not None:
        return f"has the same parts as `{twin}` here"
    seen[name] = bundle
    return None


def _expanded(
    cells: _Cells, group: list[str], places: tuple[Place, ...], own: dict[str, Any], given: Mapping[str, Any] | None, name: str
) -> dict[tuple[str, Place], list[Scenario]]:
    """The scenarios of some methods at some places, a list of seeds each. Mistakes are told with the lines of the atlas."""
    document, data = cells.document, dict(cells.document.data)
    lines: dict[Location, int] = dict(document.lines)
    data["sweep"] = {"list": [cells.points[place] for place in places]}
    for section in ("sweep", "variants"):
        _copied(document, ("atlas",), (section,), lines)
    for index, (condition, _) in enumerate(places):
        _copied(document, ("atlas", "conditions", condition), ("sweep", "list", str(index)), lines)
    if group:
        data["variants"] = {method: cells.variants[method] for method in group}
        if isinstance(data.get("tune"), Mapping):
            data["tune"] = {**data["tune"], "others": own}
    for method in group:
        lines[("tune", "others", method)] = document.lines.get(("atlas", "local"), document.lines.get(("tune",), 1))
        _copied(document, ("atlas", "methods", cells.listed.get(method, method)), ("variants", method, "method"), lines)
        for section in ("methods", "changes"):
            _copied(document, ("atlas", section, method), ("variants", method), lines)
    study = expand(Document(data, document.source, lines), cells.rest, cells.folder, name, given)
    seeds = len(study) // (len(places) * max(1, len(group)))
    found: dict[tuple[str, Place], list[Scenario]] = {}
    for index, (scenario, variant) in enumerate(zip(study.scenarios, study.variants, strict=True)):
        found.setdefault((variant, places[index // seeds % len(places)]), []).append(scenario)
    return found


def _copied(document: Document, before: Location, after: Location, lines: dict[Location, int]) -> None:
    """The lines of what stands under ``before`` for ``after`` as well; of a place without one, those of the nearest around it."""
    for length in range(len(before), 0, -1):
        if before[:length] in document.lines:
            lines[after] = document.lines[before[:length]]
            break
    for place, line in document.under.get(before[:2], {}).items():
        if place[: len(before)] == before:
            lines[(*after, *place[len(before) :])] = line


def _named(study: Study) -> Study:
    """The study with scenarios that are named after their cells."""
    named = tuple(
        scenario.model_copy(update={"name": f"{study.name}-{label}"[:100]})
        for scenario, label in zip(study.scenarios, study.labels, strict=True)
    )
    return replace(study, scenarios=named)
