"""Random scenarios, drawn from the JSON Schema that editors are given, so that what is registered is drawn without an edit.

A scenario grows: first what has to fit together (task, fleet, stages, method, optimizer, length), then one field after the other.
What the validator refuses is left out again; the refusals are handed over as well, as each has to be one clear error.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncsim.registry import json_schema
from asyncsim.scenario import Document, Scenario, build_scenario

FOLDER = Path(__file__).parent / "data"
"""Where the small files lie that scenarios name."""

HEAVY = {
    "task": {"cifar10", "cifar100", "mnist5k", "mnistm5k", "idx", "npz", "pydoc_lm", "click_through", "token_lm"},
    "model": {"char_mlp", "cnn", "deep_fm", "resnet", "resnet8", "resnet20", "resnet56", "transformer", "wrn", "wrn_16_4"},
    "engine": {"graphed"},
}
"""What takes a data set, seconds a gradient, or a GPU."""
LIKELY = {"asgd": 3.0, "bsp": 2.0, "ssp": 2.0, "softsync": 2.0, "quadratic": 4.0, "sgd": 6.0, "constant": 2.0, "mlp": 3.0}
"""Kinds drawn more often than others of their room, for which there are the most independent checks."""
FILES = {"recorded": "times.csv", "empirical": "times.csv", "matrix": "matrix.csv", "Script": "script.csv"}

SECONDS = (0.0, 0.01, 0.1, 0.25, 0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 3.0, 5.0, 12.0, 30.0)  # few values, so that instants coincide
NUMBERS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.9, 0.99, 1.0, 1.5, 2.0, 4.0)
WHOLE = (0, 1, 1, 2, 2, 3, 4, 6)
UNITS = {
    "seconds": SECONDS, "bytes": (0, 1, 100, 1000, 50_000), "bytes per second": (50, 400, 1000, 10_000, 1e6),
    "dollars per hour": (0, 0.5, 3.06), "dollars per gigabyte": (0, 0.09, 100), "watts": (0, 10, 300),
}  # fmt: skip
SCALES: dict[str, tuple[Any, ...]] = {
    "updates": (8, 20, 33, 60), "samples": (50, 200, 800), "workers": (2, 3, 4, 5, 6, 8, 12), "count": (1, 2, 2, 3, 4),
    "hidden": (3, 5, 8), "batch": (2, 4, 6, 8), "lr": (0.0, 0.01, 0.05, 0.1, 0.3), "local_lr": (0.01, 0.05),
    "dim": (1, 3, 8), "noise": (0.0, 0.1, 1.0), "curvature": (0.1, 0.5, 1.0), "alpha": (1.0, 1.5, 3.0), "length": (10, 50),
    "steps": (1, 2, 4), "normal": (1.0, 5.0), "probability": (0.0, 0.1, 0.5), "period": (30.0, 600.0), "shape": (0.5, 1.0, 2.0),
}  # fmt: skip
"""By the name of a field, where its bounds in the schema are too wide for a small run."""
CADENCE = {"evaluate": {"updates": (1, 7, 10), "samples": (10, 100), "time": (1.0, 3.0, 10.0)},
           "checkpoint": {"updates": (1, 5), "time": (1.0, 4.0), "minutes": (100.0,)},
           "run": {"time": (3.0, 10.0, 25.0)}, "maintenance": {"every": (3.0, 10.0)},
           "server": {"checkpoint": (1.0, 4.0)}}  # fmt: skip
NAMES = ("a", "b")
APART = {"name", "device", "threads", "variants", "seeds", "baseline", "sweep", "advise", "tune", "seed", "engine", "records"}
"""Sections that are no part of what a run does, or that the checks choose themselves."""
TOGETHER = ("task", "stages.count", "cluster.workers", "method", "optimizer")

DENSE, SPARSE = (0.15, 0.4, 0.9), (0.1, 0.2, 0.5)
"""How likely each optional field of a section is: few or nearly all of them; further inside, fewer."""
TRIES = 3
"""Values drawn for one field until one is allowed."""

Refusal = tuple[dict[str, Any], BaseException]


class Drawer:
    """Draws values for pieces of the schema."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.schema = _SCHEMA or _SCHEMA.update(json_schema(Scenario)) or _SCHEMA

    def draw(self, schema: dict[str, Any], name: str = "", section: str = "", depth: int = 0) -> Any:
        """A value for ``schema``; ``name`` is that of its field, ``section`` the field around it."""
        room = schema.get("$ref", "").rpartition("/")[2]
        schema = self.resolved(schema)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return self.rng.choice(schema["enum"])
        if "anyOf" in schema:
            return self._one_of(schema, room, name, section, depth)
        kind = schema.get("type")
        if kind == "object" or "properties" in schema:
            return self._mapping(schema, name or room, depth)
        if kind == "array":
            return self._list(schema, name, section, depth)
        if kind == "boolean":
            return self.rng.random() < 0.5
        if kind in ("integer", "number"):
            return self.number(schema, name, section, whole=kind == "integer")
        return self.rng.choice(NAMES)

    def resolved(self, schema: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in schema:
            schema = self.schema["$defs"][schema["$ref"].rpartition("/")[2]]
        return schema

    def number(self, schema: dict[str, Any], name: str, section: str, whole: bool = False, values: Any = None) -> float:
        """A number within the bounds of the schema, of the size that fits the field."""
        values = CADENCE.get(section, {}).get(name) or SCALES.get(name) or values or (WHOLE if whole else NUMBERS)
        least, most = schema.get("minimum", -1e18), schema.get("maximum", 1e18)
        above, below = schema.get("exclusiveMinimum", -1e18), schema.get("exclusiveMaximum", 1e18)
        fitting = [value for value in values if least <= value <= most and above < value < below]
        value = self.rng.choice(fitting or [least if least > -1e18 else most])
        return int(value) if whole else value

    def _one_of(self, schema: dict[str, Any], room: str, name: str, section: str, depth: int) -> Any:
        options = [option for option in schema["anyOf"] if option.get("type") != "null"]
        if _unit(schema):
            value = self.number(options[0], name, section, values=UNITS[_unit(schema)])
            return f"{1000 * value:g}ms" if _unit(schema) == "seconds" and self.rng.random() < 0.2 else value
        bodies = [option for option in options if "const" in option.get("properties", {}).get("kind", {})]
        if not bodies:
            fitting = [option for option in options if "shorthand" not in option.get("description", "")]
            return self.draw(self.rng.choice(fitting), name, section, depth)
        kinds = {option["properties"]["kind"]["const"]: option for option in bodies}
        kinds = {kind: option for kind, option in kinds.items() if kind not in HEAVY.get(room, ())}
        if depth > 3:  # a delay within a delay within a delay
            kinds = {kind: option for kind, option in kinds.items() if "$ref" not in str(option)} or kinds
        weights = [LIKELY.get(kind, 1.0) for kind in kinds]
        kind = self.rng.choices(list(kinds), weights)[0]
        return {"kind": kind, **self._mapping(kinds[kind], kind, depth)}

    def _mapping(self, schema: dict[str, Any], section: str, depth: int) -> dict[str, Any]:
        value: dict[str, Any] = {}
        chance = self.rng.choice(DENSE if depth < 2 else SPARSE)
        for name, field in schema.get("properties", {}).items():
            if name == "kind" or name == "sha256":
                continue
            if name == "file":
                value[name] = FILES.get(schema.get("title", ""), FILES.get(section, "times.csv"))
            elif name in schema.get("required", ()) or self.rng.random() < chance:
                value[name] = self.draw(field, name, section, depth + 1)
        if isinstance(schema.get("additionalProperties"), dict):
            keys = [key for key in (range(3) if section == "overrides" else NAMES) if self.rng.random() < 0.7]
            value |= {key: self.draw(schema["additionalProperties"], "", section, depth + 1) for key in keys}
        return value

    def _list(self, schema: dict[str, Any], name: str, section: str, depth: int) -> list[Any]:
        least = schema.get("minItems", 0)
        size = min(max(least, self.rng.choice((1, 1, 2, 3))), schema.get("maxItems", 99))
        if name == "workers":  # indices
            return sorted(self.rng.sample(range(4), size))
        return [self.draw(schema.get("items", {}), name, section, depth + 1) for _ in range(size)]


_SCHEMA: dict[str, Any] = {}


def _unit(schema: dict[str, Any]) -> str | None:
    unit = schema.get("description", "").partition(", or ")[0]
    return unit if unit in UNITS else None


def growths(drawer: Drawer) -> dict[str, dict[str, Any]]:
    """Paths of fields that a scenario may grow by, and their schemas: those of plain sections one by one."""
    found: dict[str, dict[str, Any]] = {}
    for name, field in drawer.schema["properties"].items():
        if name in APART:
            continue
        inner = drawer.resolved(next((option for option in field.get("anyOf", ()) if "$ref" in option), field))
        bodies = [body for body in (inner, *inner.get("anyOf", ())) if "properties" in body and "kind" not in body["properties"]]
        if bodies:
            found |= {f"{name}.{key}": each for key, each in bodies[0]["properties"].items()}
        else:
            found[name] = field
    return found


def with_field(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of ``document`` with ``value`` at a dotted path."""
    changed = copy.deepcopy(document)
    *sections, last = path.split(".")
    place = changed
    for section in sections:
        place = place.setdefault(section, {})
    place[last] = value
    return changed


def built(document: dict[str, Any]) -> Scenario:
    """The scenario of plain data. Raises ``UserError``."""
    return build_scenario(Document(copy.deepcopy(document), "drawn"), folder=str(FOLDER))


def has_kind(scenario: Scenario, kind: str) -> bool:
    """Is there a part of this kind anywhere in the fleet?"""
    return f"'kind': '{kind}'" in str(scenario.document()["cluster"])


def drawn(seed: int, refused: Callable[[Refusal], None] = lambda _: None) -> dict[str, Any]:
    """The scenario of a seed, as plain data that is valid; every refusal on the way is shown to ``refused``."""
    rng = random.Random(f"torture {seed}")
    drawer = Drawer(rng)
    fields = growths(drawer)

    def valid(document: dict[str, Any]) -> bool:
        try:
            built(document)
        except Exception as error:
            refused((document, error))
            return False
        return True

    while True:
        document: dict[str, Any] = {"seed": rng.randrange(5), "run": {"updates": drawer.number({}, "updates", "run", whole=True)}}
        for path in TOGETHER:
            if path in ("task", "cluster.workers", "method") or rng.random() < 0.5:
                section, _, name = path.rpartition(".")
                document = with_field(document, path, drawer.draw(fields[path], name, section))
        if document.get("stages", {}).get("count", 1) > 1:
            document["cluster"]["workers"] = document["stages"]["count"] * rng.choice((1, 1, 2, 3))
        if valid(document):
            break
    rest = [path for path in fields if path not in TOGETHER and path != "run.updates"]
    crowded = [path for path in rest if path.startswith("cluster.")]  # where most can go wrong
    for _ in range(rng.choice((0, 1, 2, 4, 6, 9))):
        path = rng.choice(crowded if rng.random() < 0.6 else rest)
        section, _, name = path.rpartition(".")
        for _ in range(TRIES):
            grown = with_field(document, path, drawer.draw(fields[path], name, section))
            if valid(grown):
                document = grown
                break
    return document
