"""What takes workers away for a while: crashes and preemption one by one, whole zones at once, maintenance; and spot presets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from asyncsim.cluster.delays import LastingDelay, SteadyDelay
from asyncsim.cluster.fields import WorkerIndex
from asyncsim.cluster.network import Counts, blocks
from asyncsim.registry import Problem, Spec, located
from asyncsim.units import PositiveSeconds, Seconds

Spot = Literal["aws_v100_availability", "aws_v100_preemption", "aws_r5"]
AWS_WARNING = 120.0
"""Seconds between Amazon's notice and the end of a spot instance; Google Cloud and Azure give 30."""


def _spot(name: str, field: str) -> dict[str, Any]:
    return {field: {"kind": "spot_up", "fleet": name.removeprefix("aws_")}, "down": "spot_down", "warning": AWS_WARNING}


class _Preset(Spec):
    """A bare name stands for the fields that belong to it; those that are given as well replace them."""

    shorthand: ClassVar[str | None] = "preset"
    lasting: ClassVar[str]
    more: ClassVar[dict[str, Any]] = {}
    preset: Spot | None = None

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, data: Any) -> Any:
        name = data.get("preset") if isinstance(data, Mapping) else data
        if name not in Spot.__args__:
            return data
        return {"preset": name, **_spot(name, cls.lasting), **cls.more} | (dict(data) if isinstance(data, Mapping) else {})


class Faults(_Preset):
    """A worker is ``up``, crashes, is ``down``, comes back, and so on. With neither given, it never crashes.

    ``warning`` before the crash (spot preemption): the worker may finish and push what it has begun, and begins nothing new.
    A preset is the fitted lives and absences of `spot_up` and `spot_down`, with a warning of two minutes.
    """

    lasting: ClassVar[str] = "up"
    up: LastingDelay | None = None
    down: SteadyDelay | None = None
    warning: Seconds | None = None

    @model_validator(mode="after")
    def _complete(self) -> Faults:
        if (self.up is None) != (self.down is None):
            missing = "up" if self.up is None else "down"
            raise located("faults", [((missing,), None, f"`{missing}` is missing; faults take both `up` and `down`")])
        return self


class Zones(_Preset):
    """Losses that come together. Each zone loses workers again and again: ``gap`` between the ends of one event and the next.

    With probability ``whole`` an event takes all workers of the zone that are up, else a number of them that is uniform between
    1 and all but one, chosen at random. Each goes at a time of its own within ``spread``, after its ``warning``, and stays
    ``down``. ``zones``: how many of equal size, or the workers in each. In the traces behind the presets 36 to 72 % of events
    take all, and interruptions of one event lie within three minutes.
    """

    lasting: ClassVar[str] = "gap"
    more: ClassVar[dict[str, Any]] = {"spread": 180.0}
    zones: Counts = 3
    gap: LastingDelay
    down: SteadyDelay
    whole: float = Field(default=0.5, ge=0, le=1)
    spread: Seconds = 0.0
    warning: Seconds | None = None

    def members(self, num_workers: int) -> list[list[int]]:
        """Workers of each zone."""
        found: dict[int, list[int]] = {}
        for worker, zone in enumerate(blocks(self.zones, num_workers)):
            found.setdefault(zone, []).append(worker)
        return list(found.values())

    def problems(self, num_workers: int) -> Iterator[Problem]:
        """What does not fit this fleet, by field."""
        if isinstance(self.zones, int):
            if not 1 <= self.zones <= num_workers:
                yield ("zones",), self.zones, f"allowed are 1 to {num_workers} zones, each with a worker or more"
        elif sum(self.zones) != num_workers:
            yield ("zones",), list(self.zones), f"hold {sum(self.zones)} workers, and the fleet has {num_workers}"


class Maintenance(Spec):
    """Windows in which the listed ``workers`` (absent: all) are down: for ``duration``, ``every`` so often, from ``first``
    (absent: ``every``) on. ``warning`` as for faults."""

    every: PositiveSeconds
    duration: PositiveSeconds
    first: Seconds | None = None
    workers: Annotated[tuple[WorkerIndex, ...], Field(min_length=1)] | None = None
    warning: Seconds | None = None

    @model_validator(mode="after")
    def _between(self) -> Maintenance:
        if self.duration >= self.every:
            message = f"windows would touch; allowed is less than `every`, {self.every:g} s"
            raise located("maintenance", [(("duration",), self.duration, message)])
        if self.warning is not None and self.warning > self.every - self.duration:
            message = f"longer than workers are up; allowed is up to {self.every - self.duration:g} s"
            raise located("maintenance", [(("warning",), self.warning, message)])
        return self
