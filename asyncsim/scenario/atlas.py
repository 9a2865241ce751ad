"""The section ``atlas``: methods, worker counts and conditions, every combination of which `asyncsim atlas` runs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from asyncsim.registry import Problem, Spec, located
from asyncsim.scenario.problems import shown
from asyncsim.scenario.schema import NAME, NAME_RULE
from asyncsim.scenario.tuning import FIELD, Other

Changes = dict[str, Any]
"""Fields and their values, on top of the scenario; dotted paths are allowed."""
EVERY = "all"
WORKERS = "cluster.workers"
"""The field of the scenario that worker counts are."""


def _checked_methods(data: Any) -> Any:
    if data == EVERY:
        return data
    if isinstance(data, Mapping) and data:
        return _checked_changes(data)
    if isinstance(data, list) and data and all(isinstance(name, str) for name in data):
        twice = next((name for name in data if data.count(name) > 1), None)
        if twice is None:
            return data
        raise ValueError(f"lists {shown(twice)} twice; leave one out")
    raise ValueError(f"must be `all`, a list of names, or a mapping from names to changes (it is {shown(data)})")


def _checked_changes(data: Any) -> dict[str, Any]:
    """A mapping from names to changes of the scenario, which may be empty."""
    if not isinstance(data, Mapping) or not data:
        example = "`slow: {cluster.compute: 9s}`"
        raise ValueError(f"must be a mapping from names to changes of the scenario, such as {example} (it is {shown(data)})")
    problems: list[Problem] = []
    for name, change in data.items():
        if not isinstance(change, Mapping):
            problems.append(((str(name),), change, f"must be a mapping of changes of the scenario (it is {shown(change)})"))
        elif not re.fullmatch(NAME, str(name)):
            problems.append(((str(name),), change, f"a name {NAME_RULE}"))
    if problems:
        raise located("atlas", problems)
    return {str(name): dict(change) for name, change in data.items()}


Named = Annotated[dict[str, Changes], Field(min_length=1), BeforeValidator(_checked_changes)]
Methods = Annotated[
    Literal["all"] | Annotated[list[str], Field(min_length=1)] | Annotated[dict[str, Changes], Field(min_length=1)],
    BeforeValidator(_checked_methods),
]


class Local(Other):
    """What holds for methods whose workers take steps at a rate of their own (the property ``local_rate``): that rate is tuned,
    over the values of ``tune`` unless there are others here, and the server's ``optimizer`` is this one."""

    field: str | None = Field(default="method.local_lr", pattern=FIELD)
    optimizer: Changes = Field(default={"kind": "sgd", "lr": 1.0})


class Atlas(Spec):
    """Methods times conditions times worker counts. ``methods: all`` tries every method that is registered, at its defaults, and
    leaves out what does not fit; ``changes`` changes some of them. ``conditions`` are changes of the scenario, by name."""

    methods: Methods = "all"
    changes: Named | None = None
    workers: list[Annotated[int, Field(ge=1)]] = Field(min_length=1)
    conditions: Named
    local: Local = Local()

    @model_validator(mode="after")
    def _distinct(self) -> Atlas:
        problems: list[Problem] = []
        for index, count in enumerate(self.workers):
            if count in self.workers[:index]:
                problems.append((("workers", index), count, f"{count} is listed twice; leave one out"))
        names = list(self.conditions)
        for place, (name, change) in enumerate(self.conditions.items()):
            cluster = change.get("cluster")
            if WORKERS in change or (isinstance(cluster, Mapping) and "workers" in cluster):
                problems.append((("conditions", name), None, "sets `cluster.workers`; `atlas.workers` says how many there are"))
            same = next((other for other in names[:place] if self.conditions[other] == change), None)
            if same is not None:
                problems.append((("conditions", name), None, f"is the same condition as `{same}`; leave one out"))
        if problems:
            raise located("atlas", problems)
        return self
