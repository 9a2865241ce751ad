"""Delays with one textbook distribution. All are independent and identical from draw to draw and from worker to worker."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from asyncsim.cluster.delays import Delay, bounded, delays
from asyncsim.cluster.fields import NonNegative, Positive
from asyncsim.registry import located
from asyncsim.units import PositiveSeconds, Seconds, SpreadSeconds

MOST_CV = 100
"""Of a gamma distribution: beyond it nearly every draw is 0, and the mean is that of a few draws in a million."""


@delays.register("constant")
class Constant(Delay):
    """Always ``mean`` seconds. A bare value such as ``50ms`` means this kind."""

    shorthand: ClassVar[str | None] = "mean"
    mean: Seconds

    @property
    def expected(self) -> float:
        return self.mean

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.full(size, self.mean)


@delays.register("uniform")
class Uniform(Delay):
    """Uniform between ``low`` and ``high``."""

    low: Seconds = 0.0
    high: Seconds

    @model_validator(mode="after")
    def _ordered(self) -> Uniform:
        if self.high < self.low:
            raise located("uniform", [(("high",), self.high, f"`high` is below `low`; allowed is {self.low:g} s or more")])
        return self

    @property
    def expected(self) -> float:
        return (self.low + self.high) / 2

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return rng.uniform(self.low, self.high, size)


@delays.register("exponential")
class Exponential(Delay):
    """The memoryless distribution: P(T > t) = exp(-t / mean)."""

    mean: PositiveSeconds

    @property
    def expected(self) -> float:
        return self.mean

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return bounded(rng.exponential(self.mean, size))


@delays.register("shifted_exponential")
class ShiftedExponential(Delay):
    """``shift`` + an exponential of mean ``mean``, the model of straggler theory (arXiv 2010.02147).

    ``mean`` is that of the exponential part alone; the whole delay's is ``shift + mean``.
    """

    shift: Seconds
    mean: SpreadSeconds

    @property
    def expected(self) -> float:
        return self.shift + self.mean

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return bounded(self.shift + rng.exponential(self.mean, size))


@delays.register("gamma")
class Gamma(Delay):
    """Gamma of mean ``mean`` and coefficient of variation ``cv``: shape 1 / cv², scale mean · cv². ``cv`` 0 is constant."""

    mean: PositiveSeconds
    cv: NonNegative = Field(le=MOST_CV)

    @property
    def expected(self) -> float:
        return self.mean

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        variance = self.cv**2
        if variance < 1e-300:
            return np.full(size, self.mean)
        return bounded(rng.gamma(1 / variance, self.mean * variance, size))


@delays.register("lognormal")
class Lognormal(Delay):
    """The exponential of a normal variable, given by ``median`` and ``sigma`` or else by ``mean`` and ``cv``.

    The literature's mu is the logarithm of the median: lognormal(mu -0.23, sigma 1.46) in hours is ``{median: 0.79h, sigma:
    1.46}``. Further, mean = median · exp(sigma² / 2) and cv² = exp(sigma²) - 1.
    """

    median: PositiveSeconds | None = None
    sigma: NonNegative | None = Field(default=None, le=20)
    mean: PositiveSeconds | None = None
    cv: NonNegative | None = Field(default=None, le=1e6)

    @model_validator(mode="after")
    def _one_pair(self) -> Lognormal:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if given not in ({"median", "sigma"}, {"mean", "cv"}):
            found = ", ".join(sorted(given)) or "nothing"
            raise ValueError(f"a lognormal takes `median` and `sigma`, or `mean` and `cv`; given: {found}")
        return self

    @property
    def _mu_sigma(self) -> tuple[float, float]:
        if self.median is not None and self.sigma is not None:
            return math.log(self.median), self.sigma
        assert self.mean is not None
        assert self.cv is not None
        variance = math.log1p(self.cv**2)
        return math.log(self.mean) - variance / 2, math.sqrt(variance)

    @property
    def expected(self) -> float:
        mu, sigma = self._mu_sigma
        return math.exp(mu + sigma**2 / 2)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return bounded(rng.lognormal(*self._mu_sigma, size))


@delays.register("weibull")
class Weibull(Delay):
    """A Weibull distribution: P(T > t) = exp(-(t / scale)^shape).

    The mean is scale · Γ(1 + 1 / shape). A shape below 1 has a heavy tail; it is 0.1 at least.
    """

    scale: PositiveSeconds
    shape: Positive = Field(ge=0.1)

    @property
    def expected(self) -> float:
        return self.scale * math.gamma(1 + 1 / self.shape)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return bounded(self.scale * rng.weibull(self.shape, size))


@delays.register("pareto")
class Pareto(Delay):
    """A Pareto distribution with a cap: min(X, cap) with P(X > x) = (scale / x)^alpha for x >= scale.

    Longer draws are moved to ``cap``, not drawn again, so P(T = cap) = (scale / cap)^alpha. Plato takes alpha 1 and a cap of
    60 s (github.com/TL-System/plato).
    """

    scale: PositiveSeconds
    alpha: Positive
    cap: PositiveSeconds

    @model_validator(mode="after")
    def _ordered(self) -> Pareto:
        if self.cap < self.scale:
            raise located("pareto", [(("cap",), self.cap, f"`cap` is below `scale`; allowed is {self.scale:g} s or more")])
        return self

    @property
    def expected(self) -> float:
        """scale + the integral of (scale / x)^alpha from scale to cap."""
        length, power = math.log(self.cap / self.scale), 1 - self.alpha
        return self.scale * (1 + (math.expm1(power * length) / power if power else length))

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        return np.minimum(self.scale * (1 + rng.pareto(self.alpha, size)), self.cap)
