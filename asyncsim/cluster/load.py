"""Load of others on the machines, which comes and goes with the hour."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field, model_validator

from asyncsim.cluster.fields import Positive
from asyncsim.cluster.speed import Episode
from asyncsim.registry import Spec, located
from asyncsim.units import PositiveSeconds, Seconds, nanoseconds


class Load(Spec):
    """Speed that repeats itself every ``period``.

    Sinusoidal, in ``steps`` equal pieces: at the time ``peak`` (of load) a machine loses the share ``depth`` of its speed, half a
    period later nothing; 1 - depth / 2 is its mean speed. Or piecewise: ``factors`` by which work takes longer, in equal pieces.
    """

    period: PositiveSeconds = 86400.0
    depth: float | None = Field(default=None, gt=0, lt=1)
    peak: Seconds = 0.0
    steps: int = Field(default=24, ge=2, le=10_000)
    factors: tuple[Positive, ...] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _one_form(self) -> Load:
        if (self.depth is None) == (self.factors is None):
            message = "give `depth` (sinusoidal) or `factors` (piecewise), one of the two"
            raise located("load", [(("depth",), self.depth, message)])
        if nanoseconds(self.period) < (len(self.factors) if self.factors else self.steps):
            message = "too short for its pieces; allowed is a nanosecond a piece or more"
            raise located("load", [(("period",), self.period, message)])
        return self

    def pieces(self) -> tuple[float, ...]:
        """How many times longer work takes, piece by piece from the start of a period."""
        if self.factors is not None:
            return self.factors
        middles = ((piece + 0.5) / self.steps - self.peak / self.period for piece in range(self.steps))
        return tuple(round(1 / (1 - self.depth * (1 + math.cos(2 * math.pi * middle)) / 2), 9) for middle in middles)

    def episodes(self) -> Iterator[Episode]:
        """The pieces of all periods, as episodes without end."""
        pieces, period, begin = self.pieces(), nanoseconds(self.period), 0
        while True:
            for index, factor in enumerate(pieces):
                start, end = (begin + period * each // len(pieces) for each in (index, index + 1))
                yield Episode(start, end, factor)
            begin += period
