"""What takes workers away for a while: crashes and preemptions of single workers, losses of whole zones, maintenance; and
presets for spot machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field, model_validator

from asyncsim.cluster.delays import LastingDelay, SteadyDelay
from asyncsim.cluster.fields import WorkerIndex
from asyncsim.cluster.network import Counts, blocks
from asyncsim.registry import Problem, Spec, located
from asyncsim.units import PositiveSeconds, Seconds

Spot = Literal["aws_v100_availability", "aws_v100_preemption", "aws_r5"]
AWS_WARNING = 120.0
"""Seconds between Amazon's notice and the end of a spot instance. Google Cloud and Azure give 30 seconds."""


def _spot(name: str, field: str) -> dict[str, Any]:
    return {field: {"kind": "spot_up", "fleet": name.removeprefix("aws_")}, "down": "spot_down", "warning": AWS_WARNING}


class _Preset(Spec):
    """Settings for which a bare name stands; fields that are given beside the name replace those of the preset."""

    shorthand: ClassVar[str | None] = "preset"
    lasting: ClassVar[str]
    more: ClassVar[dict[str, Any]] = {}
    preset: Spot | None = None

    @model_validator(mode="before")
    @classmethod
    def _spelled_out(cls, data: Any) -> Any:
        name = data.get("preset") if isinstance(data, Mapping) else data
        if not isinstance(name, str) or name not in get_args(Spot):
            return data
        return {"preset": name, **_spot(name, cls.lasting), **cls.more} | (dict(data) if isinstance(data, Mapping) else {})


class Faults(_Preset):
    """A worker is up for a time drawn from ``up``, crashes, is down for a time drawn from ``down``, comes back, and so on. With
    neither given, it never crashes.

    With ``warning`` it learns of a crash so long before it happens (spot preemption): it may finish and push what it has
    begun, and begins nothing new. A preset has the fitted lifetimes and absences of `spot_up` and `spot_down`, and a warning
    of two minutes.
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
    """Workers that are lost together. Each zone has one event after another; ``gap`` is the time from the end of one to the
    next.

    With probability ``whole`` an event takes all workers of the zone that are up. Otherwise it takes a number that is
    uniform between 1 and all but one, chosen at random. Each of them goes at a time of its own within ``spread``, after its
    ``warning``, and stays ``down``. ``zones`` is the number of zones of equal size, or a list of the number of workers in
    each. In the traces behind the presets 36 to 72 % of the events take all workers, and the interruptions of one event lie
    within three minutes.
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
        """The workers of each zone."""
        found: dict[int, list[int]] = {}
        for worker, zone in enumerate(blocks(self.zones, num_workers)):
            found.setdefault(zone, []).append(worker)
        return list(found.values())

    def problems(self, num_workers: int) -> Iterator[Problem]:
        """The settings that do not fit a fleet of so many workers, each with its field and the reason."""
        if isinstance(self.zones, int):
            if not 1 <= self.zones <= num_workers:
                yield ("zones",), self.zones, f"allowed are 1 to {num_workers} zones, each with a worker or more"
        elif sum(self.zones) != num_workers:
            yield ("zones",), list(self.zones), f"hold {sum(self.zones)} workers, and the fleet has {num_workers}"


class Maintenance(Spec):
    """Windows of maintenance, in which the listed ``workers`` (all, if left out) are down.

    A window takes ``duration``. They come at the interval ``every``, the first at ``first`` (after one interval, if left
    out). ``warning`` is that of `Faults`.
    """

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
