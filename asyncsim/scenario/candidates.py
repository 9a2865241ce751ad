"""The section ``advise``: the fleets and methods to choose between. Each pair of them becomes a variant of the scenario."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError
from asyncsim.scenario.document import Document, Location, parse_value, read_document
from asyncsim.scenario.problems import ScenarioError, shown
from asyncsim.scenario.study import Study, expand

KEYS = ("fleets", "methods")
SECTIONS = {"fleets": "cluster", "methods": "method"}


def load_candidates(
    path: str | Path,
    changes: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Any] | None = None,
    fleets: Mapping[str, Any] | None = None,
    methods: Mapping[str, Any] | None = None,
) -> Study:
    """The candidates of a file: fleets times methods of its section ``advise`` (``fleets`` and ``methods`` given here replace
    those of the file), or its variants; times the points of its sweep. Raises ``UserError``, also if there is only one."""
    document = read_document(path)
    section = document.data.get("advise")
    given = {key: value for key, value in (("fleets", fleets), ("methods", methods)) if value}
    if given and (section is None or isinstance(section, Mapping)):
        document = Document({**document.data, "advise": {**(section or {}), **given}}, document.source, document.lines)
    study = expand(with_candidates(document), changes or {}, str(Path(path).resolve().parent), Path(path).stem, sweep)
    if len(set(study.labels)) < 2:
        example = "`advise: {fleets: {small: {workers: 4}, large: {workers: 16}}}`"
        raise UserError(f"{path}: describes one candidate only; give more, as {example}, variants, a sweep, or --fleet")
    return study


def with_candidates(document: Document) -> Document:
    """The document with the candidates of its section ``advise`` as variants; unchanged if it has no such section. Raises
    ``ScenarioError``."""
    if "advise" not in document.data:
        return document
    data = dict(document.data)
    section = data.pop("advise")
    wrong = list(_problems(section, "variants" in data))
    if wrong:
        raise ScenarioError([f"{document.where(place)}: {'.'.join(place)}: {message}" for place, message in wrong])
    choices = {key: _named(section.get(key)) for key in KEYS}
    variants: dict[str, Any] = {}
    lines: dict[Location, int] = dict(document.lines)
    for fleet, cluster in (choices["fleets"] or {"": None}).items():
        for method, change in (choices["methods"] or {"": None}).items():
            name = " ".join(filter(None, (fleet, method)))
            made = {"cluster": cluster, "method": change}
            variants[name] = {key: value for key, value in made.items() if value is not None}
            for key, choice in (("fleets", fleet), ("methods", method)):
                listed = section.get(key)
                prefix = ("advise", key, str(listed.index(choice)) if isinstance(listed, list) and choice else choice)
                for place, line in document.under.get(prefix[:2], {}).items():
                    if place[:3] == prefix:
                        lines[("variants", name, SECTIONS[key], *place[3:])] = line
                        lines.setdefault(("variants", name), line)
    return Document({**data, "variants": variants}, document.source, lines)


def parse_fleets(texts: Sequence[str]) -> dict[str, Any]:
    """Fleets by name, from ``--fleet 16`` (a number of workers) or ``--fleet "spot={workers: 16, instance: aws_p3_2xlarge}"``."""
    fleets: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        fleet = parse_value(value if equals else text)
        if not equals and isinstance(fleet, int) and not isinstance(fleet, bool):
            name, fleet = f"{fleet} workers", {"workers": fleet}
        if not isinstance(fleet, Mapping) or not name.strip():
            raise UserError(f'--fleet {text}: must be a count of workers, or "name={{workers: 16, instance: aws_p3_2xlarge}}"')
        fleets[name.strip()] = dict(fleet)
    return fleets


def _named(choices: Any) -> dict[str, Any]:
    """A list of methods as a mapping, with each under its kind."""
    return {str(name): name for name in choices} if isinstance(choices, list) else {str(k): v for k, v in (choices or {}).items()}


def _problems(section: Any, variants: bool) -> Iterator[tuple[tuple[str, ...], str]]:
    if not isinstance(section, Mapping) or not section:
        yield ("advise",), f"must be a mapping with `fleets`, `methods` or both (it is {shown(section)})"
        return
    if variants:
        yield ("advise",), "makes variants of the scenario, and there are `variants` beside it; keep one of them"
    for key, value in section.items():
        place = ("advise", str(key))
        if key not in KEYS:
            yield place, f"unknown field; known are {', '.join(KEYS)}"
        elif key == "methods" and isinstance(value, list) and value and all(isinstance(name, str) for name in value):
            continue
        elif not isinstance(value, Mapping) or not value:
            what = "changes of `cluster`, such as `spot: {workers: 16}`" if key == "fleets" else "methods, or a list of names"
            yield place, f"must be a mapping from names to {what} (it is {shown(value)})"
        elif key == "fleets":
            for name, fleet in value.items():
                if not isinstance(fleet, Mapping):
                    message = f"must be a mapping of changes of `cluster`, such as `{{workers: 16}}` (it is {shown(fleet)})"
                    yield (*place, str(name)), message
