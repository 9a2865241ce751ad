"""The load that other users put on the machines, which rises and falls with the hour."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pydantic import Field, model_validator

from asyncsim.cluster.fields import Positive
from asyncsim.cluster.speed import Episode
from asyncsim.registry import Spec, located
from asyncsim.units import PositiveSeconds, Seconds, nanoseconds


class Load(Spec):
    """A speed that repeats itself every ``period``: sinusoidal, or piecewise constant.

    Sinusoidal: at the time ``peak`` a machine loses the share ``depth`` of its speed, half a period later it loses nothing,
    and on average it keeps 1 - depth / 2; the curve is cut into ``steps`` equal pieces. Piecewise: ``factors`` are the
    numbers by which work takes longer, in pieces of equal length.
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
        """The factor by which work takes longer in each piece, from the start of a period on."""
        if self.factors is not None:
            return self.factors
        assert self.depth is not None
        depth = self.depth
        middles = ((piece + 0.5) / self.steps - self.peak / self.period for piece in range(self.steps))
        return tuple(round(1 / (1 - depth * (1 + math.cos(2 * math.pi * middle)) / 2), 9) for middle in middles)

    def episodes(self) -> Iterator[Episode]:
        """The pieces of all periods as slowdown episodes; the iterator is endless."""
        pieces, period, begin = self.pieces(), nanoseconds(self.period), 0
        while True:
            for index, factor in enumerate(pieces):
                start, end = (begin + period * each // len(pieces) for each in (index, index + 1))
                yield Episode(start, end, factor)
            begin += period
