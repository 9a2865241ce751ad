"""What a delay is: a duration in virtual seconds, or its distribution. The kinds are in the files beside this one.

A new kind is one class::

    import numpy as np
    from asyncsim.cluster import Delay
    from asyncsim.registries import delays
    from asyncsim.units import Seconds

    @delays.register("coin")
    class Coin(Delay):
        low: Seconds
        high: Seconds

        @property
        def expected(self) -> float:
            return (self.low + self.high) / 2

        def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
            return np.where(rng.random(size) < 0.5, self.low, self.high)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated

import numpy as np
from pydantic import AfterValidator

from asyncsim.cluster.speed import Episode
from asyncsim.registry import Registry, Spec
from asyncsim.streams import Draws, StepValues, Streams
from asyncsim.units import TICK

MAX_SECONDS = 9e9
"""285 years, just under 2**63 nanoseconds: virtual time has no more room. Longer draws of heavy-tailed distributions are cut to
it."""


class Delay(Spec):
    """A distribution of durations.

    One object may stand for many workers. Where machines differ (`cvb`, `tiers`), ``for_worker`` gives the delay of one
    of them, and the unbound delay describes a worker chosen anew for every draw.
    """

    @property
    @abstractmethod
    def expected(self) -> float:
        """The expected duration in virtual seconds, slowdown episodes included; ``inf`` where it does not exist."""

    @property
    def shortest(self) -> float:
        """Expected duration on the fastest kind of machine that is named. Kinds with a factor for each override it."""
        return self.expected

    @property
    def zero(self) -> str | None:
        """The row of a file of measurements that says 0 s, in words; None if there is none, here and in the delays inside."""
        return next((found for each in _inside(self) if (found := each.zero)), None)

    @abstractmethod
    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw durations at full speed: shape ``(size,)``, float64 virtual seconds, finite and not negative, as a function of
        ``rng`` alone."""

    def for_worker(self, streams: Streams, worker: int) -> Delay:
        """This delay on the machine of ``worker``. Draws of a machine come from ``streams("machine", worker)`` only,
        so they do not depend on how many workers there are."""
        return self

    def draws(self, streams: Streams, purpose: str, worker: int) -> StepValues:
        """``worker``'s durations as a sequence that is addressed by step. `recorded` overrides it, as its values depend on the
        step."""
        return Draws(streams, purpose, (worker,), self.for_worker(streams, worker).sample)

    @property
    def elapsed(self) -> bool:
        """Are the draws elapsed times, which include the cluster's slowdowns already? Otherwise they are times at full speed."""
        return False

    @property
    def slowdown(self) -> float:
        """The long-run ratio of elapsed time to time at full speed: ``expected`` is ``slowdown`` times the mean of ``sample``."""
        return 1.0

    def episodes(self, streams: Streams, worker: int) -> Iterator[Episode]:
        """The spans of time in which ``worker`` is slow, in order of their starts; the iterator may be endless.

        Kinds that override this are not `steady`.
        """
        return iter(())


def _inside(spec: Spec) -> Iterator[Delay]:
    """The delays that are fields of ``spec``, or of parts that are listed in them."""
    for value in spec.__dict__.values():
        for each in value if isinstance(value, tuple) else (value,):
            if isinstance(each, Delay):
                yield each
            elif isinstance(each, Spec):
                yield from _inside(each)


delays: Registry[Delay] = Registry("delay", default="constant")


def steady(delay: Delay) -> bool:
    """Does the delay have no slowdown episodes, so that its draws alone describe it?"""
    return type(delay).episodes is Delay.episodes


def _refuse_episodes(delay: Delay) -> Delay:
    if not steady(delay):
        raise ValueError(f"`{delay.kind}` is allowed only as `compute`, outermost; put the other delay into its `base`")
    return delay


def _refuse_zero(delay: Delay) -> Delay:
    if delay.expected == 0:
        raise ValueError("no time would pass; allowed is a delay whose expected value is above 0 s")
    if delay.zero:
        raise ValueError(f"{delay.zero}; allowed are those above 0 here, where time has to pass")
    return delay


def _refuse_split_ticks(delay: Delay) -> Delay:
    if 0 < delay.shortest < TICK:
        raise ValueError(f"has an expected value of {delay.shortest:.3g} s; allowed is 1ns, the tick of virtual time, or more")
    return delay


_ADelay = Annotated[Delay, delays, AfterValidator(_refuse_split_ticks)]
SteadyDelay = Annotated[_ADelay, AfterValidator(_refuse_episodes)]
LastingDelay = Annotated[_ADelay, AfterValidator(_refuse_episodes), AfterValidator(_refuse_zero)]
ComputeDelay = Annotated[_ADelay, AfterValidator(_refuse_zero)]


def bounded(seconds: np.ndarray) -> np.ndarray:
    """``seconds`` cut to 285 years, in place, since virtual time counts nanoseconds in 63 bits."""
    return np.minimum(seconds, MAX_SECONDS, out=seconds)
