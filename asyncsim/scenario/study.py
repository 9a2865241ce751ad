"""One file, several runs: ``variants`` (named changes) times ``seeds``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError
from asyncsim.scenario.document import Document, parse_value, read_document
from asyncsim.scenario.merge import merged
from asyncsim.scenario.problems import ScenarioError
from asyncsim.scenario.schema import Scenario, build_scenario

STUDY_KEYS = ("variants", "seeds", "baseline")


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
    data = merged(document.data, changes)
    if "seed" in changes:
        data.pop("seeds", None)
    variants, seeds, baseline = data.pop("variants", None), data.pop("seeds", None), data.pop("baseline", None)
    data.setdefault("name", default_name)
    problems: list[str] = []
    if variants is not None and (not isinstance(variants, dict) or not variants):
        problems.append(f"{document.where(('variants',))}: variants: must be a mapping from names to changes")
        variants = None
    if baseline is not None and baseline not in (variants or {}):
        problems.append(f"{document.where(('baseline',))}: baseline: must name one of the variants (it is {baseline!r})")
    seed_list = _seeds(seeds, data.get("seed", 0), document, problems)
    scenarios, names = [], []
    for variant, change in (variants or {None: {}}).items():
        for seed in seed_list:
            try:
                scenarios.append(_one(document, data, variant, change, seed, tuple(changes), folder))
                names.append(data["name"] if variant is None else str(variant))
            except ScenarioError as error:
                problems.extend(error.problems)
            except UserError as error:
                problems.append(f"{document.where(('variants', str(variant)))}: variants.{variant}: {error}")
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)))
    return Study(str(data["name"]), tuple(scenarios), tuple(names), baseline)


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
            raise UserError("must be a mapping of changes, such as `{method: gap_aware}`")
        prefix = ("variants", str(variant))
        for location, line in document.lines.items():
            if location[:2] == prefix and len(location) > 2:
                place = tuple(part for name in location[2:] for part in name.split("."))
                lines |= {place[:length]: line for length in range(2, len(place))} | {place: line}
        data = merged(data, change) | {"name": f"{data['name']}-{variant}"}
    if seed is not None:
        data = {**data, "seed": seed}
    return build_scenario(Document(dict(data), document.source, lines), overridden, folder)


def _seeds(seeds: Any, seed: Any, document: Document, problems: list[str]) -> list[Any]:
    """``seeds: 3`` means three seeds from ``seed`` on; a list means those."""
    if seeds is None:
        return [None]
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds >= 1 and isinstance(seed, int):
        return list(range(seed, seed + seeds))
    if isinstance(seeds, list) and seeds and len(set(map(str, seeds))) == len(seeds):
        return seeds
    problems.append(
        f"{document.where(('seeds',))}: seeds: must be a count of at least 1 or a list of different seeds (it is {seeds!r})"
    )
    return [None]


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
