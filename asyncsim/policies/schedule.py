"""Learning-rate schedules: a factor as a function of the part of the run that is done."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from asyncsim.registry import Registry, Spec

schedules: Registry[Schedule] = Registry("schedule")


class Schedule(Spec):
    """``factor(done, updates, num_workers)`` multiplies the optimiser's learning rate.

    With ``unit: run`` (the default) positions are fractions of the run length in 0..1, whatever limits it; with
    ``unit: updates`` they are update counts. The factor of an arrival is that of the moment of arrival (server side).
    ``warmup`` rises linearly from ``warmup_from`` (a factor, or ``1/N``) to 1.
    """

    unit: Literal["run", "updates"] = "run"
    warmup: float = Field(default=0.0, ge=0)
    warmup_from: float | Literal["1/N"] = 0.0

    @model_validator(mode="after")
    def _fractions(self) -> Schedule:
        if self.unit == "run" and self.warmup > 1:
            raise ValueError(
                f"warmup is a fraction of the run, 0 to 1, not {self.warmup:g}; for update counts say `unit: updates`"
            )
        if isinstance(self.warmup_from, float) and not 0 <= self.warmup_from <= 1:
            raise ValueError(f"warmup_from is a factor between 0 and 1, or 1/N, not {self.warmup_from:g}")
        return self

    @property
    def constant(self) -> bool:
        """Is the factor always 1?"""
        return False

    def _given(self, field: str) -> None:
        """Refuse a default of a position with ``unit: updates``: defaults are fractions of the run, and numbers of updates must
        be given."""
        if self.unit == "updates" and field not in self.model_fields_set:
            raise ValueError(f"with `unit: updates`, `{field}` must be given as a number of updates")

    def factor(self, done: float, updates: int, num_workers: int) -> float:
        """The factor, at least 0. ``done`` is the fraction of the run and ``updates`` the number of updates, both including the
        arriving one."""
        position = done if self.unit == "run" else float(updates)
        factor = self.after_warmup(position)
        if position < self.warmup:
            start = 1.0 / num_workers if self.warmup_from == "1/N" else float(self.warmup_from)
            factor *= start + (1.0 - start) * position / self.warmup
        return factor

    def after_warmup(self, position: float) -> float:
        """The factor without warm-up at a position (fraction of the run, or updates)."""
        raise NotImplementedError


@schedules.register("constant")
class Constant(Schedule):
    """The factor is always 1."""

    @property
    def constant(self) -> bool:
        return not self.warmup

    def after_warmup(self, position: float) -> float:
        return 1.0


@schedules.register("multistep")
class MultiStep(Schedule):
    """The factor is multiplied by ``gamma`` after every milestone."""

    milestones: tuple[float, ...] = (0.5, 0.75)
    gamma: float = Field(default=0.1, gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> MultiStep:
        self._given("milestones")
        if list(self.milestones) != sorted(self.milestones) or any(m < 0 for m in self.milestones):
            raise ValueError("milestones must be at least 0 and in ascending order")
        if self.unit == "run" and any(m > 1 for m in self.milestones):
            raise ValueError("milestones are fractions of the run, 0 to 1; for update counts say `unit: updates`")
        return self

    def after_warmup(self, position: float) -> float:
        return self.gamma ** sum(position > milestone for milestone in self.milestones)


@schedules.register("cosine")
class Cosine(Schedule):
    """The factor follows half a cosine from 1 to ``final``, over the run (or over ``length`` updates)."""

    final: float = Field(default=0.0, ge=0, le=1)
    length: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        self._given("length")
        return self

    def after_warmup(self, position: float) -> float:
        phase = min(1.0, position / self.length)
        return self.final + (1.0 - self.final) * 0.5 * (1.0 + math.cos(math.pi * phase))


@schedules.register("linear")
class Linear(Schedule):
    """The factor follows a straight line from 1 to ``final``, over the run (or over ``length`` updates)."""

    final: float = Field(default=0.0, ge=0, le=1)
    length: float = Field(default=1.0, gt=0)

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        self._given("length")
        return self

    def after_warmup(self, position: float) -> float:
        return 1.0 + (self.final - 1.0) * min(1.0, position / self.length)


@schedules.register("inverse_sqrt")
class InverseSqrt(Schedule):
    """The factor is ``1 / sqrt(1 + position / scale)``."""

    scale: float = Field(default=0.1, gt=0)

    @model_validator(mode="after")
    def _scaled(self) -> Self:
        self._given("scale")
        return self

    def after_warmup(self, position: float) -> float:
        return 1.0 / math.sqrt(1.0 + position / self.scale)
