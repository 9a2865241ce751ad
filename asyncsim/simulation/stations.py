"""The stages that a batch goes through beside training: sampling, a copy engine that fetches, and writing back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.cluster import Constant, SteadyDelay
from asyncsim.registry import Spec
from asyncsim.units import nanoseconds

if TYPE_CHECKING:
    from asyncsim.streams import StepValues, Streams


class StationTimes(Spec):
    """Delays of the stages of a batch beside training; ``k``: its memory is fetched when that of the k-th before it is written.
    With ``postpone`` that begins as late as it can without making training wait, otherwise as early as it can."""

    k: int = Field(default=2, ge=1)
    sample: SteadyDelay = Constant(mean=0.0)
    features: SteadyDelay = Constant(mean=0.0)
    memory: SteadyDelay = Constant(mean=0.0)
    write: SteadyDelay = Constant(mean=0.0)
    postpone: bool = True

    def period(self, compute: float) -> float:
        """The expected seconds of a batch in the long run, if training takes ``compute`` and all times are constant."""
        sample, features, memory, write = (each.expected for each in (self.sample, self.features, self.memory, self.write))
        return max(sample, features + memory, compute, write, (memory + compute + write) / self.k)


@dataclass(slots=True)
class Stations:
    """Until when (ns) the stages of one worker are taken, each by one batch at a time; the two that fetch share one engine.

    ``times`` are those of the four stages, by step. ``written`` holds the ends of the writes that were not done when memory was
    fetched last. All that is to be known of a batch when it could be trained follows from the batches before it, so nothing is
    scheduled: the worker is told until when it has to wait.
    """

    settings: StationTimes
    times: tuple[StepValues, ...]
    sampled: int
    copied: int
    written: deque[int] = field(default_factory=deque)

    @classmethod
    def of(cls, settings: StationTimes, streams: Streams, worker: int, now: int) -> Stations:
        """Those of a worker that begins."""
        times = (
            settings.sample.draws(streams, "sample", worker), settings.features.draws(streams, "fetch features", worker),
            settings.memory.draws(streams, "fetch memory", worker), settings.write.draws(streams, "write memory", worker),
        )  # fmt: skip
        return cls(settings, times, now, now)

    def fetch(self, step: int, now: int) -> tuple[int, int]:
        """When the memory for a step has been fetched that could be trained ``now``, and how many writes were not done when that
        began."""
        sample, features, memory = (nanoseconds(times[step]) for times in self.times[:3])
        self.sampled += sample
        begin = max(self.sampled, self.copied) + features
        if len(self.written) >= self.settings.k:
            begin = max(begin, self.written[-self.settings.k])
        if self.settings.postpone:
            begin = max(begin, now - memory)
        while self.written and self.written[0] <= begin:
            self.written.popleft()
        self.copied = begin + memory
        return self.copied, len(self.written)

    def write(self, step: int, now: int) -> None:
        """The step has been trained, and is written when the writes before it are done."""
        begin = max(now, self.written[-1]) if self.written else now
        self.written.append(begin + nanoseconds(self.times[3][step]))
