"""The section ``advise``: fleets and methods to choose between. Each pair of them is a variant of the scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from asyncsim.scenario.beside import read_beside
from asyncsim.scenario.document import Document
from asyncsim.scenario.merge import overridden
from asyncsim.scenario.problems import Problems
from asyncsim.scenario.yaml_text import Location

SECTIONS = {"fleets": "cluster", "methods": "method"}


def with_candidates(document: Document, changes: Mapping[str, Any]) -> tuple[Document, dict[str, Any]]:
    """The document with its section ``advise`` as variants, and the changes that are still to be made; where it has none, as they
    are. Raises ``ScenarioError``."""
    inside = {path: value for path, value in changes.items() if path.partition(".")[0] == "advise"}
    changes = {path: value for path, value in changes.items() if path not in inside}
    data = overridden(document.data, inside)
    if "advise" not in data:
        return document, changes
    problems = Problems(document, inside)
    beside, _ = read_beside(dict(data), problems)
    problems.refuse()
    section = data.pop("advise")
    variants: dict[str, Any] = {}
    lines: dict[Location, int] = dict(document.lines)
    if beside.advise is not None:
        methods = beside.advise.methods
        fleets: Mapping[str, Any] = beside.advise.fleets or {"": None}
        listed: Mapping[str, Any] | None = {name: name for name in methods} if isinstance(methods, list) else methods
        for fleet, cluster in fleets.items():
            for method, change in (listed or {"": None}).items():
                name = " ".join(filter(None, (fleet, method)))
                made = {"cluster": cluster, "method": change}
                variants[name] = {key: value for key, value in made.items() if value is not None}
                for key, choice in (("fleets", fleet), ("methods", method)):
                    written = section.get(key)
                    prefix = ("advise", key, str(written.index(choice)) if isinstance(written, list) and choice else choice)
                    for place, line in document.under.get(prefix[:2], {}).items():
                        if place[:3] == prefix:
                            lines[("variants", name, SECTIONS[key], *place[3:])] = line
                            lines.setdefault(("variants", name), line)
        data["variants"] = variants
    return Document(data, document.source, lines), changes
