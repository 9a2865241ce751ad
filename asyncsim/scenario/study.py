"""One file, several runs: ``variants`` (named changes) times ``seeds``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError, nearest
from asyncsim.scenario.document import Document, parse_value, read_document
from asyncsim.scenario.merge import merged
from asyncsim.scenario.problems import ScenarioError, origin, shown
from asyncsim.scenario.schema import NAME, NAME_RULE, Scenario, build_scenario

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Study:
    """Runs that belong together, by variant and seed, in the order of the file."""

    name: str
    scenarios: tuple[Scenario, ...]
    variants: tuple[str, ...]  # of each scenario; the study's own name where the file has no variants
    baseline: str | None = None  # the variant that speed-ups are against

    def __len__(self) -> int:
        return len(self.scenarios)


def load_scenario(path: str | Path, changes: Mapping[str, Any] | None = None) -> Scenario:
    """The scenario in a file, with ``changes`` (dotted paths allowed) on top. Raises ``UserError``, also if there are several."""
    study = load_study(path, changes)
    if len(study) != 1:
        raise UserError(f"{path}: describes {len(study)} runs; read it with load_study")
    return study.scenarios[0]


def load_study(path: str | Path, changes: Mapping[str, Any] | None = None) -> Study:
    """All runs of a file, validated as a whole. Raises ``UserError`` with one line a problem."""
    document = read_document(path)
    return expand(document, changes or {}, str(Path(path).resolve().parent), default_name=Path(path).stem)


def expand(document: Document, changes: Mapping[str, Any], folder: str | None, default_name: str) -> Study:
    """The runs that plain data describes. A change of ``seeds`` or ``seed`` replaces the file's seeds."""
    try:
        data = merged(document.data, changes)
    except UserError as error:
        raise UserError(f"override: {error}") from None
    if "seed" in changes:
        data.pop("seeds", None)
    variants, seeds, baseline = data.pop("variants", None), data.pop("seeds", None), data.pop("baseline", None)
    data.setdefault("name", default_name)
    problems: list[str] = []

    def wrong(key: str, message: str) -> None:
        problems.append(f"{origin((key,), document, tuple(changes))}: {key}: {message}")

    if variants is not None and (not isinstance(variants, dict) or not variants):
        wrong("variants", f"must be a mapping from names to changes, such as `a: {{method: asgd}}` (it is {shown(variants)})")
        variants = None
    variants = {str(name): change for name, change in (variants or {}).items()}
    if baseline is not None and str(baseline) not in variants:
        known = ", ".join(variants) or "there are none"
        wrong("baseline", f"must name one of the variants: {known} (it is {shown(baseline)}{nearest(str(baseline), variants)})")
    for path in changes:
        if variants and all(isinstance(change, Mapping) and _hides(change, path) for change in variants.values()):
            wrong("variants", f"every variant sets `{path.partition('.')[0]}` itself, so `--set {path}` would change nothing")
    seed_list = _seeds(seeds, data.get("seed", 0))
    if seed_list is None:
        wrong("seeds", f"must be a count from 1 to {MOST_SEEDS:,} or a list of different whole numbers (it is {shown(seeds)})")
    scenarios, names = [], []
    for variant, change in (variants or {None: {}}).items():
        for seed in seed_list or [None]:
            try:
                scenarios.append(_one(document, data, variant, change, seed, tuple(changes), folder))
                names.append(data["name"] if variant is None else variant)
            except ScenarioError as error:
                problems.extend(error.problems)
            except UserError as error:
                problems.append(f"{document.where(('variants', variant))}: variants.{variant}: {error}")
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)))
    return Study(data["name"], tuple(scenarios), tuple(names), None if baseline is None else str(baseline))


def _hides(change: Mapping[str, Any], path: str) -> bool:
    """Does a variant's change replace whatever stands at ``path``?"""
    replaced = [key for key, value in change.items() if not isinstance(value, Mapping) or "kind" in value]
    return any(path == key or path.startswith(f"{key}.") for key in replaced)


def _one(
    document: Document,
    data: Mapping[str, Any],
    variant: Any,
    change: Any,
    seed: Any,
    overridden: tuple[str, ...],
    folder: str | None,
) -> Scenario:
    lines = dict(document.lines)
    if variant is not None:
        if not isinstance(change, Mapping):
            raise UserError(f"must be a mapping of changes, such as `{{method: gap_aware}}` (it is {shown(change)})")
        if not re.fullmatch(NAME, variant):
            raise UserError(f"a variant's name {NAME_RULE}")
        prefix = ("variants", variant)
        for location, line in document.lines.items():
            if location[:2] == prefix and len(location) > 2:
                place = tuple(part for name in location[2:] for part in name.split("."))
                lines |= {place[:length]: line for length in range(2, len(place))} | {place: line}
        name = data["name"]
        fits = isinstance(name, str) and re.fullmatch(NAME, name)  # otherwise the scenario says what is wrong with it
        data = merged(data, change) | {"name": f"{name}-{variant}" if fits else name}
    if seed is not None:
        data = {**data, "seed": seed}
    return build_scenario(Document(dict(data), document.source, lines), overridden, folder)


def _seeds(seeds: Any, seed: Any) -> list[Any] | None:
    """``seeds: 3`` means three seeds from ``seed`` on; a list means those. None if it is neither."""
    if seeds is None:
        return [None]
    if isinstance(seeds, list):
        whole = all(isinstance(entry, int) and not isinstance(entry, bool) and 0 <= entry < 2**63 for entry in seeds)
        return seeds if whole and 0 < len(seeds) == len(set(seeds)) <= MOST_SEEDS else None
    if not isinstance(seeds, int) or isinstance(seeds, bool) or not 1 <= seeds <= MOST_SEEDS:
        return None
    return list(range(seed, seed + seeds)) if type(seed) is int else [None]  # a wrong seed is the scenario's problem


def parse_changes(assignments: list[str]) -> dict[str, Any]:
    """``["a.b=c", ...]`` as a mapping; values are read as YAML."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path.strip() or any(not part for part in path.strip().split(".")):
            raise UserError(f"--set {assignment}: must be field=value, such as cluster.workers=32")
        changes[path.strip()] = parse_value(value)
    return changes


def study_schema(scenario: dict[str, Any]) -> dict[str, Any]:
    """The JSON Schema of a file: that of one scenario, and ``variants``, ``seeds`` and ``baseline``."""
    several = {
        "variants": {
            "type": "object",
            "additionalProperties": {"type": "object"},
            "description": "name: changes (dotted paths allowed)",
        },
        "seeds": {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "array", "items": {"type": "integer"}}]},
        "baseline": {"type": "string", "description": "the variant that speed-ups are against"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **scenario,
        "title": "asyncsim scenario file",
        "properties": {**scenario["properties"], **several},
    }
