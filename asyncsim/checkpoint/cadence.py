"""The scenario's section ``checkpoint``: when a run with a folder saves itself."""

from __future__ import annotations

from pydantic import Field, model_validator

from asyncsim.registry import Spec
from asyncsim.units import PositiveSeconds


class Cadence(Spec):
    """How often a run saves itself: every so many ``updates``, virtual seconds of ``time``, or wall ``minutes``; at most one of
    the three.

    Results do not depend on it. With none of the three nothing is saved on the way. ``end`` keeps a checkpoint of the end,
    from which a longer run can start.
    """

    updates: int | None = Field(default=None, ge=1)
    time: PositiveSeconds | None = None
    minutes: float | None = Field(default=None, ge=0)
    end: bool = False

    @model_validator(mode="after")
    def _one_cadence(self) -> Cadence:
        if sum(value is not None for value in (self.updates, self.time, self.minutes)) > 1:
            raise ValueError("at most one of updates, time, minutes")
        return self


DEFAULT = Cadence(minutes=1.0)
"""The cadence of a run whose scenario has no section ``checkpoint``."""
