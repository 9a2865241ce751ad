"""Lifetimes that often end early or late: the bathtub curve of preemptible machines with a maximum lifetime."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from pydantic import model_validator

from asyncsim.cluster.delays import MAX_SECONDS, Delay, delays
from asyncsim.cluster.fields import Positive
from asyncsim.registry import located
from asyncsim.units import PositiveSeconds, Seconds

HALVINGS = 60
"""Steps of bisection: more than a float has bits."""
FEW = 16
"""Below so many draws at once they are made one by one."""


@delays.register("bathtub")
class Bathtub(Delay):
    """Lifetimes with many early and many late losses, as those of preemptible machines with a maximum lifetime.

    P(T <= t) = A (1 - exp(-t / early) + exp((t - b) / late)), up to the time at which it reaches 1, which is the longest
    lifetime. Early losses have the time constant ``early`` (the paper's tau1), late ones ``late`` (tau2) around ``b`` (near
    24 h for preemptible machines of Google's cloud); ``scale`` is A. The formula is not 0 but ``A exp(-b / late)`` at t = 0:
    that is the probability of a lifetime of length zero. P. Kadupitiya et al., "Modeling the temporally constrained
    preemptions of transient cloud VMs", arXiv 1911.05160.
    """

    early: PositiveSeconds
    late: PositiveSeconds
    b: Seconds
    scale: Positive

    @model_validator(mode="after")
    def _distribution(self) -> Bathtub:
        if self.scale * math.exp(-self.b / self.late) >= 1:
            message = "all lives would end at once; allowed is less than exp(b / late)"
            raise located("bathtub", [(("scale",), self.scale, message)])
        if self.end > MAX_SECONDS:
            raise located("bathtub", [(("late",), self.late, f"lives of {self.end:.3g} s; allowed are up to {MAX_SECONDS:g} s")])
        return self

    @cached_property
    def end(self) -> float:
        """The longest lifetime, in seconds."""
        high = self.b + self.late * max(0.0, math.log(1 / self.scale) + 1)
        return float(self._when(np.array([1.0]), high)[0])

    @property
    def expected(self) -> float:
        """The expected lifetime: the integral of 1 - P from 0 to the longest lifetime."""
        early, late, end = self.early, self.late, self.end
        losses = end + early * math.expm1(-end / early) + late * (math.exp((end - self.b) / late) - math.exp(-self.b / late))
        return end - self.scale * losses

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        chances = rng.random(size)
        if size < FEW:
            return np.array([self._once(chance, self.end) for chance in chances.tolist()])
        return self._when(chances, self.end)

    def _when(self, chances: np.ndarray, high: float) -> np.ndarray:
        """When the distribution reaches ``chances``, by bisection between 0 and ``high``."""
        low, top = np.zeros(chances.shape), np.full(chances.shape, high)
        for _ in range(HALVINGS):
            middle = (low + top) / 2
            below = self._reached(middle) < chances
            low, top = np.where(below, middle, low), np.where(below, top, middle)
        return top

    def _once(self, chance: float, high: float) -> float:
        """The same for one chance, with the same bits: arrays of one number cost twenty times as much."""
        low, top = 0.0, high
        scale, early, late, b, exp = self.scale, self.early, self.late, self.b, np.exp
        for _ in range(HALVINGS):
            middle = (low + top) / 2
            if scale * (1 - float(exp(-middle / early)) + float(exp((middle - b) / late))) < chance:
                low = middle
            else:
                top = middle
        return top

    def _reached(self, t: np.ndarray) -> np.ndarray:
        return self.scale * (1 - np.exp(-t / self.early) + np.exp((t - self.b) / self.late))
