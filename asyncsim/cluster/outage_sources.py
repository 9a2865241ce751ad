"""Outages of your own kind: a registry of sources that say which worker is lost when, for how long, and with which warning."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from asyncsim.registry import Problem, Registry, Spec
from asyncsim.units import PositiveSeconds, Seconds

outages: Registry[Outages] = Registry("outage")


class Outage(NamedTuple):
    """The worker crashes at ``at``, is told so ``warning`` before, and is back after ``down``; all in virtual seconds."""

    at: float
    worker: int
    down: float
    warning: float = 0.0


class Outages(Spec):
    """A source of outages. It knows the size of the fleet, and draws from the generator it is given and from nothing else.

    What an outage does to a worker is the simulation's business: its work is lost, and one that is down or absent already is
    not taken down again. Faults that depend on who is up (``zones``) are part of the simulation itself.
    """

    def outages(self, num_workers: int, rng: np.random.Generator) -> Iterator[Outage]:
        """The outages, perhaps without end, in the order of their notices (``at - warning``, or 0 if that is before the start).

        ``rng`` is this source's own: it depends on the scenario's seed and on the place of the source in the scenario.
        """
        raise NotImplementedError

    @property
    def rate(self) -> float:
        """The approximate number of outages in a virtual second, to estimate how long a run will take; 0 where that is not
        known."""
        return 0.0

    def problems(self, num_workers: int) -> Iterator[Problem]:
        """The settings that do not fit a fleet of so many workers: field, value and message of each problem."""
        return iter(())


@outages.register("rolling")
class Rolling(Outages):
    """One worker after the other is taken down for ``down``, as in a rolling upgrade, again and again through the fleet.

    The next one is taken at the interval ``every``, the first at ``first`` (after one interval, if left out). ``warning`` is
    that of `Faults`.
    """

    every: PositiveSeconds
    down: PositiveSeconds
    first: Seconds | None = None
    warning: Seconds | None = None

    def outages(self, num_workers: int, rng: np.random.Generator) -> Iterator[Outage]:
        at, worker = self.every if self.first is None else self.first, 0
        while True:
            yield Outage(at, worker, self.down, self.warning or 0.0)
            at, worker = at + self.every, (worker + 1) % num_workers

    @property
    def rate(self) -> float:
        return 1 / self.every

    def problems(self, num_workers: int) -> Iterator[Problem]:
        if self.down + (self.warning or 0.0) >= self.every * num_workers:
            turn = self.every * num_workers
            message = f"a worker's turn comes every {turn:g} s; allowed are `down` and `warning` of less in all"
            yield ("down",), self.down, message
