"""The length of a run, and how much of it is done."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from asyncsim.registry import Spec
from asyncsim.units import NANOSECONDS, PositiveSeconds, nanoseconds

MOST = 10**15


class Target(Spec):
    """A level of a metric. With ``stop`` (the default) the run ends at the first evaluation that reaches it."""

    metric: str = "test_accuracy"
    at_least: float | None = None
    at_most: float | None = None
    stop: bool = True

    @model_validator(mode="after")
    def _one_level(self) -> Target:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("a target needs exactly one of at_least, at_most")
        return self

    def reached(self, value: float) -> bool:
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most


class RunLength(Spec):
    """Whichever limit is met first ends the run; at least one of ``updates``, ``samples`` and ``time`` is needed.

    ``samples`` counts the samples whose gradients were applied. ``time`` is virtual seconds. A run that is foreseen to need more
    than ``most_events`` pushes, evaluations and crashes (absent: 100 million) is refused.
    """

    updates: int | None = Field(default=None, ge=1, le=MOST)
    samples: int | None = Field(default=None, ge=1, le=MOST)
    time: PositiveSeconds | None = None
    target: Target | None = None
    most_events: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _limited(self) -> RunLength:
        if self.updates is None and self.samples is None and self.time is None:
            raise ValueError("the run needs a length: at least one of updates, samples, time")
        return self

    def done(self, updates: int, samples: int, now: int) -> float:
        """The fraction of the run that is done, by whichever limit is nearest; ``now`` in nanoseconds."""
        done = 0.0
        if self.updates is not None:
            done = updates / self.updates
        if self.samples is not None:
            done = max(done, samples / self.samples)
        if self.time is not None:
            done = max(done, now / (self.time * NANOSECONDS))
        return done


class Evaluation(Spec):
    """When the task is evaluated: every so many updates, samples or virtual seconds (at most one of them), and always at
    the start and at the end. Without any, 40 times in the run."""

    updates: int | None = Field(default=None, ge=1)
    samples: int | None = Field(default=None, ge=1)
    time: PositiveSeconds | None = None
    splits: tuple[Literal["test", "validation", "train"], ...] = ("test",)

    @model_validator(mode="after")
    def _one_cadence(self) -> Evaluation:
        if sum(value is not None for value in (self.updates, self.samples, self.time)) > 1:
            raise ValueError("at most one of updates, samples, time")
        if not self.splits or len(set(self.splits)) != len(self.splits):
            raise ValueError("splits must name at least one of test, validation, train, each once")
        return self

    def against(self, length: RunLength) -> Evaluation:
        """This cadence; or the default one for a run of the given length, if no cadence was given."""
        if self.updates or self.samples or self.time:
            return self
        if length.updates is not None:
            return self.model_copy(update={"updates": max(1, length.updates // 40)})
        if length.samples is not None:
            return self.model_copy(update={"samples": max(1, length.samples // 40)})
        assert length.time is not None, "a run has a length"
        return self.model_copy(update={"time": length.time / 40})

    @property
    def every_ns(self) -> int | None:
        """The cadence in nanoseconds of virtual time, at least one."""
        return None if self.time is None else max(1, nanoseconds(self.time))
