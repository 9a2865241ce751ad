"""The families of distributions that a trace is compared with: maximum likelihood, density, distribution and quantile functions.

Each is one of the scenario's delays. Durations x have shape ``(n,)``, seconds, sorted; n >= 2 and not all are equal.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, gammainc, gammaincinv, gammaln, ndtr, ndtri, polygamma


class Family(ABC):
    """A fitted distribution. ``free`` is the number of parameters that were estimated from the data."""

    kind: ClassVar[str]
    free: ClassVar[int] = 2
    positive: ClassVar[bool] = True
    """Is a duration of 0 s impossible under this family?"""

    @classmethod
    @abstractmethod
    def fit(cls, x: np.ndarray) -> Self:
        """The member of the family with the greatest likelihood for the durations ``x``, shape ``(n,)``."""

    @abstractmethod
    def log_density(self, x: np.ndarray) -> np.ndarray:
        """Natural logarithm of the density in 1/s, shape ``(n,)``."""

    @abstractmethod
    def cdf(self, x: np.ndarray) -> np.ndarray:
        """P(T <= x), shape ``(n,)``."""

    @abstractmethod
    def quantile(self, p: np.ndarray) -> np.ndarray:
        """The duration below which a share ``p`` lies, 0 < p < 1."""

    @abstractmethod
    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        """``factor`` times this duration, as a delay that a scenario can hold: in seconds, with six significant digits."""


@dataclass(frozen=True)
class Uniform(Family):
    """Uniform between the shortest and the longest duration."""

    kind: ClassVar[str] = "uniform"
    positive: ClassVar[bool] = False
    low: float
    high: float

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        return cls(float(x[0]), float(x[-1]))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), -math.log(self.high - self.low))

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return np.clip((x - self.low) / (self.high - self.low), 0, 1)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return self.low + p * (self.high - self.low)

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        return {"kind": "uniform", "low": digits(self.low * factor), "high": digits(self.high * factor)}


@dataclass(frozen=True)
class ShiftedExponential(Family):
    """A shift, which is the shortest duration, plus an exponential with the rest of the mean."""

    kind: ClassVar[str] = "shifted_exponential"
    positive: ClassVar[bool] = False
    shift: float
    mean: float

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        return cls(float(x[0]), float((x - x[0]).mean()))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return -math.log(self.mean) - (x - self.shift) / self.mean

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return -np.expm1(-np.maximum(x - self.shift, 0) / self.mean)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return self.shift - self.mean * np.log1p(-p)

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        return {"kind": self.kind, "shift": digits(self.shift * factor), "mean": digits(self.mean * factor)}


@dataclass(frozen=True)
class Exponential(ShiftedExponential):
    """An exponential without a shift, with the mean of the trace."""

    kind: ClassVar[str] = "exponential"
    free: ClassVar[int] = 1

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        return cls(0.0, float(x.mean()))

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        return {"kind": "exponential", "mean": digits(self.mean * factor)}


@dataclass(frozen=True)
class Gamma(Family):
    """The mean is the trace's; the shape k solves log k - psi(k) = log(mean x) - mean(log x)."""

    kind: ClassVar[str] = "gamma"
    mean: float
    shape: float

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        mean = float(x.mean())
        y = x / mean - 1
        logs = np.where(y < -0.5, np.log(x / mean), np.log1p(np.maximum(y, -0.5)))
        s = float((y - logs).mean())  # the right-hand side, computed without losing digits where the spread is small
        k = (1 + math.sqrt(1 + 4 * s / 3)) / (4 * s)  # from log k - psi(k) = 1/(2k) + 1/(12k²) - ...
        for _ in range(20 if k < 1e4 else 0):
            step = (math.log(k) - float(digamma(k)) - s) / (1 / k - float(polygamma(1, k)))
            k = max(k - step, k / 10)
            if abs(step) <= 1e-12 * k:
                break
        return cls(mean, k)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        k, scale = self.shape, self.mean / self.shape
        return (k - 1) * np.log(x) - x / scale - float(gammaln(k)) - k * math.log(scale)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return gammainc(self.shape, x * (self.shape / self.mean))

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return gammaincinv(self.shape, p) * (self.mean / self.shape)

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        return {"kind": "gamma", "mean": digits(self.mean * factor), "cv": digits(self.shape**-0.5)}


@dataclass(frozen=True)
class Lognormal(Family):
    """A lognormal with the mean and the standard deviation (divided by n, not n - 1) of log x."""

    kind: ClassVar[str] = "lognormal"
    mu: float
    sigma: float

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        logs = np.log(x)
        return cls(float(logs.mean()), float(logs.std()))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        logs = np.log(x)
        return -logs - math.log(self.sigma * math.sqrt(2 * math.pi)) - ((logs - self.mu) / self.sigma) ** 2 / 2

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return ndtr((np.log(x) - self.mu) / self.sigma)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return np.exp(self.mu + self.sigma * ndtri(p))

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        return {"kind": "lognormal", "median": digits(math.exp(self.mu) * factor), "sigma": digits(self.sigma)}


@dataclass(frozen=True)
class Weibull(Family):
    """The shape k solves sum(x^k log x) / sum(x^k) - 1/k = mean(log x); the scale is mean(x^k)^(1/k)."""

    kind: ClassVar[str] = "weibull"
    scale: float
    shape: float

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        longest = float(x[-1])
        logs = np.log(x / longest)  # at most 0: powers cannot overflow
        mean = float(logs.mean())

        def slope(k: float) -> float:
            powers = np.exp(k * logs)
            return float(powers @ logs / powers.sum()) - 1 / k - mean

        low = high = 1.2 / float(logs.std())  # of the moments of log x
        while slope(low) > 0:
            low /= 2
        while slope(high) < 0:
            high *= 2
        k = brentq(slope, low, high, xtol=1e-13 * low, rtol=1e-12) if low < high else low
        return cls(longest * float(np.exp(k * logs).mean()) ** (1 / k), k)

    def log_density(self, x: np.ndarray) -> np.ndarray:
        k, logs = self.shape, np.log(x / self.scale)
        return math.log(k / self.scale) + (k - 1) * logs - np.exp(k * logs)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return -np.expm1(-((x / self.scale) ** self.shape))

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return self.scale * (-np.log1p(-p)) ** (1 / self.shape)

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        return {"kind": "weibull", "scale": digits(self.scale * factor), "shape": digits(self.shape)}


@dataclass(frozen=True)
class Pareto(Family):
    """The scale is the shortest duration, the cap the longest. Where several rows are the longest, they count as cut there.

    Likelihood and distribution function are those without the cap, which changes what happens to the longest draws alone.
    """

    kind: ClassVar[str] = "pareto"
    scale: float
    alpha: float
    cap: float

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        at_cap = int((x == x[-1]).sum())
        whole = len(x) - (at_cap if at_cap > 1 else 0)
        return cls(float(x[0]), whole / float(np.log(x / x[0]).sum()), float(x[-1]))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return math.log(self.alpha / self.scale) - (self.alpha + 1) * np.log(x / self.scale)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return -np.expm1(-self.alpha * np.log(np.maximum(x / self.scale, 1)))

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return np.minimum(self.scale * np.exp(-np.log1p(-p) / self.alpha), self.cap)

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        scale, cap = digits(self.scale * factor), digits(self.cap * factor)
        return {"kind": "pareto", "scale": scale, "alpha": digits(self.alpha), "cap": max(scale, cap)}


@dataclass(frozen=True)
class Constant(Family):
    """A constant, for durations that are all equal. It has no density."""

    kind: ClassVar[str] = "constant"
    free: ClassVar[int] = 1
    mean: float

    @classmethod
    def fit(cls, x: np.ndarray) -> Self:
        return cls(float(np.median(x)))

    def log_density(self, x: np.ndarray) -> np.ndarray:
        return np.full(len(x), math.inf)

    def cdf(self, x: np.ndarray) -> np.ndarray:
        return (x >= self.mean).astype(float)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        return np.full(len(p), self.mean)

    def delay(self, factor: float = 1.0) -> dict[str, Any]:
        return {"kind": "constant", "mean": digits(self.mean * factor)}


FAMILIES: tuple[type[Family], ...] = (Exponential, ShiftedExponential, Uniform, Gamma, Lognormal, Weibull, Pareto)


def digits(value: float) -> float:
    """``value`` rounded to six significant digits, which is more than any trace tells."""
    return float(f"{value:.6g}")
