"""Recorded durations, replayed in order."""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Literal

import numpy as np
from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from asyncsim.cluster.delays import MAX_SECONDS, Delay, delays
from asyncsim.cluster.durations import Layout, Span, Times, Unit
from asyncsim.cluster.fields import Positive
from asyncsim.cluster.files import Unusable, resolved
from asyncsim.cluster.recordings import Recording, read_recording
from asyncsim.errors import UserError
from asyncsim.registry import located
from asyncsim.streams import Exhausted, Streams
from asyncsim.units import NANOSECONDS

AtEnd = Literal["error", "repeat", "stop"]


@delays.register("recorded")
class Recorded(Delay):
    """Durations from a file, replayed: each worker takes its own rows, in order. Nothing is random.

    ``file`` is CSV, Parquet or JSON Lines with columns ``worker`` and ``column``, read as for `empirical` (``times``,
    ``unit``, ``span``). Workers that are numbers count from ``first_worker``; those that are names are numbered in alphabetical
    order. Or it is the folder of a finished run (or a table with the columns of its events): then the durations are those of the
    run's events by step, to the nanosecond, slowdowns included.

    ``end``: what happens when a worker has no row left: an ``error``, ``repeat`` from its first row, or ``stop`` (it leaves for
    good). ``scale`` multiplies. Inside another delay there is no step to go by: there each draw is any row of the file.
    Paths and ``sha256`` are as for `empirical`.
    """

    file: str = Field(min_length=1)
    worker: str = "worker"
    column: str = "seconds"
    span: Span = "compute"
    times: Times = "durations"
    unit: Unit | None = None
    first_worker: Literal[0, 1] = 0
    scale: Positive = 1.0
    end: AtEnd = "error"
    sha256: str | None = None
    _recording: Recording = PrivateAttr()

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> Recorded:
        layout = Layout(self.column, self.worker, self.span, self.times, self.unit)
        try:
            path = resolved(self.file, (info.context or {}).get("folder"))
            recording = read_recording(path, layout, self.first_worker, self.scale)
        except Unusable as error:
            raise self._wrong(error.field, str(error)) from None
        if self.sha256 not in (None, recording.sha256):
            raise self._wrong("sha256", f"{path} has changed: its SHA-256 is {recording.sha256}")
        if max(float(values.max(initial=0)) for values in recording.durations.values()) > MAX_SECONDS * NANOSECONDS:
            raise self._wrong("scale", f"{path}: a duration is longer than {MAX_SECONDS:g} s after `scale`")
        self.__dict__ |= {"file": str(path.resolve()), "sha256": recording.sha256}
        self._recording = recording
        return self

    def _wrong(self, field: str, message: str) -> ValueError:
        return located("recorded", [((field,), getattr(self, field), message)])

    @property
    def recording(self) -> Recording:
        return self._recording

    @property
    def zero(self) -> str | None:
        return self._recording.zero

    @property
    def elapsed(self) -> bool:
        return self._recording.rounds

    @property
    def expected(self) -> float:
        return float(self._pool().mean() / NANOSECONDS)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        pool = self._pool()
        return pool[rng.integers(len(pool), size=size)] / NANOSECONDS

    def draws(self, streams: Streams, purpose: str, worker: int) -> Replay:
        durations = self._recording.durations
        if worker not in durations:
            there = self._listed()
            raise UserError(f"{self.file}: no rows of kind `{self.span}` for worker {worker}; there are rows for {there}")
        return Replay(self, worker)

    def _listed(self) -> str:
        """Whom the file has rows for, and a way out where it counts from 1."""
        names = self._recording.names
        there = [str(worker) if str(names[worker]) == str(worker) else f"{worker} ({names[worker]})" for worker in sorted(names)]
        numbered = 0 not in names and not self._recording.rounds
        hint = "; if they count from 1, give `first_worker: 1`" if numbered else ""
        return ", ".join(there[:8]) + (", ..." if len(there) > 8 else "") + hint

    def _pool(self) -> np.ndarray:
        return np.concatenate(list(self._recording.durations.values()))

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Recorded) and self.settings() == other.settings()

    def __hash__(self) -> int:
        return hash((self.sha256, self.span, self.times, self.unit, self.scale, self.end))


class Replay:
    """The rows of one worker, addressed by step: the `StepValues` that are read from the file instead of drawn."""

    __slots__ = ("_delay", "_durations", "_worker")

    def __init__(self, delay: Recorded, worker: int) -> None:
        self._delay = delay
        self._worker = worker
        self._durations = delay.recording.durations[worker]

    def __getitem__(self, step: int) -> float | Fraction:
        return _seconds(self._row(step))

    def total(self, first: int, count: int) -> float | Fraction:
        """The time of ``count`` batches from step ``first`` on: one row where a row is a whole round, otherwise the sum of
        ``count`` rows."""
        if self._delay.elapsed:
            return self[first // count]
        return _seconds(sum(self._row(step) for step in range(first, first + count)))

    def _row(self, step: int) -> int:
        rows = len(self._durations)
        if step >= rows:
            match self._delay.end:
                case "stop":
                    raise Exhausted
                case "error":
                    raise UserError(
                        f"{self._delay.file}: worker {self._worker} has {rows} rows and needs row {step + 1}; "
                        "allowed are `end: repeat`, `end: stop`, or a shorter run"
                    )
                case "repeat":
                    step %= rows
        return int(self._durations[step])


def _seconds(nanoseconds: int) -> float | Fraction:
    """Seconds that become these nanoseconds again: a float, or a fraction where no float would do (from about 26 days on)."""
    seconds = nanoseconds / NANOSECONDS
    return seconds if round(seconds * NANOSECONDS) == nanoseconds else Fraction(nanoseconds, NANOSECONDS)
