"""A worker's speed as a function of virtual time. It is piecewise constant, and generated only as far as it is needed."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from operator import attrgetter
from typing import NamedTuple

from asyncsim.errors import UserError
from asyncsim.units import NANOSECONDS, nanoseconds

MOST_SEGMENTS = 300_000
"""Changes of speed within one computation, or while a worker idles, from which on a run is given up, after some seconds."""


class Episode(NamedTuple):
    """From ``start`` until ``end`` (nanoseconds of virtual time; None: for ever), work takes ``factor`` times longer."""

    start: int
    end: int | None
    factor: float


class Segment(NamedTuple):
    """A span of virtual time (``end`` excluded) during which work takes ``factor`` times longer."""

    start: int
    end: float  # an integer number of nanoseconds, or inf
    factor: Fraction | int


Source = Callable[[], Iterator[Episode]]
"""A function that returns an iterator of the same episodes, in order of their starts, each time it is called."""


def segments(episodes: Iterable[Episode]) -> Iterator[Segment]:
    """The time from 0 to infinity, cut wherever an episode starts or ends. Factors of overlapping episodes are multiplied."""
    waiting = iter(episodes)
    coming = next(waiting, None)
    active: list[tuple[float, Fraction]] = []  # a heap by end
    now: float = 0
    while now < math.inf:
        while coming is not None and coming.start <= now:
            heapq.heappush(active, (math.inf if coming.end is None else coming.end, Fraction(str(coming.factor))))
            coming = next(waiting, None)
        while active and active[0][0] <= now:
            heapq.heappop(active)
        end = min(active[0][0] if active else math.inf, math.inf if coming is None else coming.start)
        yield Segment(int(now), end, math.prod(factor for _, factor in active))
        now = end


def _too_many(start: int, now: int, what: str) -> UserError:
    each = (now - start) / MOST_SEGMENTS / NANOSECONDS
    return UserError(
        f"a worker changes its speed more than {MOST_SEGMENTS:,} times (every {each:.2g} s) "
        f"in {what}; give the states (`two_state`) or pieces (`load`) longer times, or the mean of their factors (`scaled`)"
    )


class Speed:
    """When work that is begun will be finished, given one worker's slowdown episodes.

    - Exact: factors are read as the decimal fractions they are written as, and only the result is rounded, to the nanosecond.
    - Monotone in start and in work; without episodes, ``finish`` is ``start + nanoseconds(work_seconds)``.
    - Segments before the latest start are forgotten. An earlier start is answered correctly, by generating again from 0.
    """

    __slots__ = ("_coming", "_known", "_sources")

    def __init__(self, *sources: Source) -> None:
        self._sources = sources
        self._restart()

    def finish(self, start: int, work_seconds: float | Fraction) -> int:
        """The instant (ns) at which ``work_seconds`` of full-speed work begun at ``start`` (ns) is done.

        It is the T that solves: integral from ``start`` to T of dt / factor(t) = ``work_seconds``.

        >>> from asyncsim.units import NANOSECONDS
        >>> slow = Speed(lambda: iter([Episode(10 * NANOSECONDS, None, 4.0)]))
        >>> slow.finish(8 * NANOSECONDS, 3.0) / NANOSECONDS   # 2 s as usual, then 1 s that takes 4
        14.0

        Raises:
            ValueError: negative start or work.
        """
        if start < 0 or work_seconds < 0:
            raise ValueError(f"work of {work_seconds} s begun at {start} ns: both must be at least 0")
        work = nanoseconds(work_seconds)
        if not self._sources:
            return start + work
        now = start
        left: int | Fraction = work
        for index, segment in enumerate(self._from(start)):
            if index > MOST_SEGMENTS:
                share = float(1 - Fraction(left) / nanoseconds(work_seconds))
                raise _too_many(start, now, f"{share:.1g} of a computation that takes {float(work_seconds):g} s at full speed")
            need = left * segment.factor
            if now + need <= segment.end:
                return round(now + need)
            left -= (int(segment.end) - now) / Fraction(segment.factor)
            now = int(segment.end)
        raise AssertionError("the last segment has no end")

    def factor(self, at: int) -> float:
        """The factor by which work takes longer at the instant ``at`` (ns)."""
        return float(next(self._from(at)).factor) if self._sources else 1.0

    def _from(self, start: int) -> Iterator[Segment]:
        """The segments, beginning with the one that contains ``start``."""
        if self._known and start < self._known[0].start:
            self._restart()
        while self._known and self._known[0].end <= start:
            self._known.popleft()
        yield from list(self._known)
        skipped = 0
        for segment in self._coming:
            if segment.end > start:
                self._known.append(segment)
                yield segment
            else:
                skipped += 1
                if skipped > MOST_SEGMENTS:
                    raise _too_many(0, int(segment.end), f"{segment.end / start:.1g} of the {start / NANOSECONDS:g} s that go by")

    def _restart(self) -> None:
        self._known: deque[Segment] = deque()
        self._coming = segments(heapq.merge(*(source() for source in self._sources), key=attrgetter("start")))

    def __reduce__(self) -> tuple[type[Speed], tuple[Source, ...]]:
        return Speed, self._sources  # the segments can be generated again
