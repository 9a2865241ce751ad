"""Runs that belong together: what one file describes, one scenario a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from asyncsim.scenario.points import point_label
from asyncsim.scenario.schema import Scenario
from asyncsim.scenario.tuning import Tune


@dataclass(frozen=True)
class Study:
    """Runs that belong together, by variant, point and seed, in the order of the file."""

    name: str
    scenarios: tuple[Scenario, ...]
    variants: tuple[str, ...]  # of each scenario; the study's own name where the file has no variants
    baseline: str | Mapping[str, Any] | None = None  # the variant, or the values of swept fields, that speed-ups are against
    points: tuple[Mapping[str, Any], ...] = ()  # of each scenario: the swept fields and their values
    tune: Tune | None = None

    def __post_init__(self) -> None:
        if not self.points:
            object.__setattr__(self, "points", ({},) * len(self.scenarios))

    def __len__(self) -> int:
        return len(self.scenarios)

    @property
    def fields(self) -> list[str]:
        """The swept fields, in the order of the file."""
        return list(dict.fromkeys(field for point in self.points for field in point))

    @property
    def several(self) -> bool:
        """Is it a sweep, if only of one run?"""
        return len(self) > 1 or any(self.points) or self.tune is not None

    def of(self, indices: Sequence[int]) -> Study:
        """Some runs of the study; they keep their labels, and with them their folders."""
        made = replace(
            self,
            scenarios=tuple(self.scenarios[index] for index in indices),
            variants=tuple(self.variants[index] for index in indices),
            points=tuple(self.points[index] for index in indices),
        )
        made.__dict__["labels"] = tuple(self.labels[index] for index in indices)  # of its own it would number equal names anew
        return made

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A name for each scenario's variant and point; scenarios that differ only in their seed share it."""
        fields = self.fields
        several = len(set(self.variants)) > 1 or any(variant != self.name for variant in self.variants)
        taken: dict[str, tuple[str, str]] = {}
        labels = []
        for variant, point in zip(self.variants, self.points, strict=True):
            words = ([variant] if several or not point else []) + ([point_label(point, fields)] if point else [])
            key = (variant, repr(point))
            label, number = (first := ",".join(words)), 1
            while taken.setdefault(label, key) != key:
                number += 1
                label = f"{first}.{number}"
            labels.append(label)
        return tuple(labels)
