"""What a file may say beside one scenario, which makes several runs of it; and the JSON Schema of a whole file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from asyncsim.registry import Problem, Spec, json_schema, located
from asyncsim.scenario.atlas import Atlas
from asyncsim.scenario.document import Document
from asyncsim.scenario.points import Seeds, Sweep
from asyncsim.scenario.problems import Problems, scenario_error, shown
from asyncsim.scenario.schema import NAME, NAME_RULE, Scenario
from asyncsim.scenario.tuning import Tune


def _checked_variants(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping) or not data:
        raise ValueError(f"must be a mapping from names to changes, such as `a: {{method: asgd}}` (it is {shown(data)})")
    problems: list[Problem] = []
    for name, change in data.items():
        if not isinstance(change, Mapping):
            example = "such as `{method: gap_aware}`"
            problems.append(((str(name),), change, f"must be a mapping of changes, {example} (it is {shown(change)})"))
        elif not re.fullmatch(NAME, str(name)):
            problems.append(((str(name),), change, f"a variant's name {NAME_RULE}"))
    if problems:
        raise located("variants", problems)
    return {str(name): change for name, change in data.items()}


def _checked_fleets(data: Any) -> dict[str, Any]:
    if not isinstance(data, Mapping) or not data:
        example = "changes of `cluster`, such as `spot: {workers: 16}`"
        raise ValueError(f"must be a mapping from names to {example} (it is {shown(data)})")
    problems: list[Problem] = [
        ((str(name),), fleet, f"must be a mapping of changes of `cluster`, such as `{{workers: 16}}` (it is {shown(fleet)})")
        for name, fleet in data.items() if not isinstance(fleet, Mapping)
    ]  # fmt: skip
    if problems:
        raise located("fleets", problems)
    return {str(name): fleet for name, fleet in data.items()}


def _checked_methods(data: Any) -> Any:
    if isinstance(data, Mapping) and data:
        return {str(name): method for name, method in data.items()}
    if isinstance(data, list) and data and all(isinstance(name, str) for name in data):
        return data
    raise ValueError(f"must be a mapping from names to methods, or a list of names (it is {shown(data)})")


def _checked_baseline(data: Any) -> Any:
    if isinstance(data, list):
        raise ValueError("must name one of the variants, or give values of swept fields, such as `{cluster.workers: 1}`")
    return {str(field): value for field, value in data.items()} if isinstance(data, Mapping) else str(data)


Changes = dict[str, Any]
"""Fields and their values, on top of the scenario; dotted paths are allowed."""


class Advise(Spec):
    """Candidates of `asyncsim advise`: ``fleets`` (changes of ``cluster``, by name) times ``methods`` (by name, or a list)."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    fleets: Annotated[dict[str, Changes], Field(min_length=1), BeforeValidator(_checked_fleets)] | None = None
    methods: (
        Annotated[
            Annotated[dict[str, Any], Field(min_length=1)] | Annotated[list[str], Field(min_length=1)],
            BeforeValidator(_checked_methods),
        ]
        | None
    ) = None

    @model_validator(mode="before")
    @classmethod
    def _something(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and data:
            return data
        raise ValueError(f"must be a mapping with `fleets`, `methods` or both (it is {shown(data)})")


class Beside(Spec):
    """What makes several runs of one scenario: its variants, times the points of its sweep, times its seeds."""

    variants: Annotated[dict[str, Changes], Field(min_length=1), BeforeValidator(_checked_variants)] | None = Field(
        default=None, description="name: changes (dotted paths allowed)"
    )
    seeds: Seeds | None = Field(default=None, description="a count, from `seed` on, or a list")
    baseline: Annotated[str | dict[str, Any], BeforeValidator(_checked_baseline)] | None = Field(
        default=None, description="what speed-ups are against: a variant, or values of swept fields such as {cluster.workers: 1}"
    )
    sweep: Sweep | None = None
    advise: Advise | None = None
    tune: Tune | None = None
    atlas: Atlas | None = None

    @model_validator(mode="after")
    def _distinct(self) -> Beside:
        if self.advise is not None and self.variants is not None:
            message = "makes variants of the scenario, and there are `variants` beside it; keep one of them"
            raise located("advise", [(("advise",), None, message)])
        for name in ("variants", "sweep"):
            if self.atlas is not None and getattr(self, name) is not None:
                message = f"its methods and conditions are variants and points, and there is `{name}` beside it; keep one of them"
                raise located("atlas", [(("atlas",), None, message)])
        if self.seeds is not None and self.sweep is not None and self.sweep.seeds is not None:
            message = "`seeds` stands outside of `sweep` too; keep one"
            raise located("sweep", [(("sweep", "seeds"), self.sweep.seeds, message)])
        return self


def read_beside(data: dict[str, Any], problems: Problems) -> tuple[Beside, frozenset[str]]:
    """What of ``data`` stands beside the scenario, taken out of it; and the names of what is wrong there and so left out, such as
    ``variants`` and ``sweep.seeds``, which ``problems`` notes."""
    whole = Document(dict(data), problems.document.source, problems.document.lines)
    rest = {key: data.pop(key) for key in Beside.model_fields if key in data}
    wrong: set[str] = set()
    while True:
        try:
            return Beside.model_validate(rest), frozenset(wrong)
        except ValidationError as error:
            problems.add(scenario_error(error, Beside, whole, problems.overridden))
            for first, *inner in {problem["loc"][:2] for problem in error.errors(include_url=False)}:
                top = str(first)
                wrong.add(f"sweep.{inner[0]}" if top == "sweep" and inner else top)
                parts = rest.get(top) if top == "sweep" and inner else None
                left = {key: part for key, part in parts.items() if key != inner[0]} if isinstance(parts, Mapping) else None
                rest[top] = left or None


class ScenarioFile(Scenario, Beside):
    """A scenario, and what makes several runs of it."""  # for the schema alone: files are read part by part

    model_config = ConfigDict(title="asyncsim scenario file")


def file_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **json_schema(ScenarioFile)}
