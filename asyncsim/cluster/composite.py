"""Delays that are made of other delays."""

from __future__ import annotations

import numpy as np

from asyncsim.cluster.delays import Delay, SteadyDelay, bounded, delays
from asyncsim.cluster.fields import Positive, Several
from asyncsim.registry import Spec
from asyncsim.streams import Streams


class Part(Spec):
    """One component of a mixture; weights are relative."""

    weight: Positive
    delay: SteadyDelay


@delays.register("mixture")
class Mixture(Delay):
    """Each draw is one of ``parts``, chosen with probability weight / sum of weights."""

    parts: Several[Part]

    @property
    def _chances(self) -> np.ndarray:
        weights = np.array([part.weight for part in self.parts])
        weights = weights / weights.max()
        return weights / weights.sum()

    @property
    def expected(self) -> float:
        return float(sum(chance * part.delay.expected for chance, part in zip(self._chances, self.parts, strict=True)))

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        chosen = rng.choice(len(self.parts), size, p=self._chances)
        seconds = np.empty(size)
        for index, part in enumerate(self.parts):
            here = chosen == index
            seconds[here] = part.delay.sample(rng, int(here.sum()))
        return seconds

    def for_worker(self, streams: Streams, worker: int) -> Delay:
        """The mixture on one machine: parts that differ by machine share the machine's draw, so they are fast or slow together.
        """
        parts = tuple(part.model_copy(update={"delay": part.delay.for_worker(streams, worker)}) for part in self.parts)
        return self.model_copy(update={"parts": parts})


@delays.register("scaled")
class Scaled(Delay):
    """The delay ``base`` times ``factor``."""

    base: SteadyDelay
    factor: Positive

    @property
    def expected(self) -> float:
        return self.base.expected * self.factor

    @property
    def shortest(self) -> float:
        return self.base.shortest * self.factor

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return bounded(self.base.sample(rng, size) * self.factor)

    def for_worker(self, streams: Streams, worker: int) -> Delay:
        return self.model_copy(update={"base": self.base.for_worker(streams, worker)})


@delays.register("tiers")
class Tiers(Delay):
    """Kinds of machines in turn: worker i takes ``base`` times ``factors[i mod len(factors)]``.

    As long as the delay is not bound to a worker, each draw takes one of the factors, all with the same probability.
    """

    base: SteadyDelay
    factors: Several[Positive]

    @property
    def expected(self) -> float:
        return self.base.expected * sum(self.factors) / len(self.factors)

    @property
    def shortest(self) -> float:
        return self.base.shortest * min(self.factors)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        factors = np.array(self.factors)[rng.integers(len(self.factors), size=size)]
        return bounded(self.base.sample(rng, size) * factors)

    def for_worker(self, streams: Streams, worker: int) -> Delay:
        factor = self.factors[worker % len(self.factors)]
        return Scaled.model_construct(base=self.base.for_worker(streams, worker), factor=factor)  # a machine may be any
