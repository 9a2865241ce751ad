"""Choose the family of distributions that describes durations best."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from pydantic import ValidationError

from asyncsim.calibration.families import FAMILIES, Constant, Family
from asyncsim.cluster.delays import delays

EQUAL = 1e-6
"""Durations that differ by less than this share of their mean are treated as a constant."""
CLOSE = 10.0
"""Difference of AIC from which on the worse of two models has essentially no support (Burnham and Anderson 2002, section 2.6)."""


class Candidate(NamedTuple):
    """A fitted family, or the reason why there is none. ``log_likelihood`` is the sum over all rows, and AIC = 2 free - 2
    log-likelihood."""

    kind: str
    family: Family | None
    log_likelihood: float | None = None
    aic: float | None = None
    ks: float | None = None
    """Kolmogorov-Smirnov distance: the greatest difference between the trace's and the fit's distribution function."""
    refused: str | None = None

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "kind": self.kind, "delay": None if self.family is None else self.family.delay(),
            "free": None if self.family is None else self.family.free,
            "log_likelihood": self.log_likelihood, "aic": self.aic, "ks": self.ks, "refused": self.refused,
        }  # fmt: skip


class Fit(NamedTuple):
    """The result of fitting every family to ``values``, shape ``(n,)``, sorted seconds. ``candidates`` come best first."""

    values: np.ndarray
    candidates: tuple[Candidate, ...]
    chosen: Candidate

    @property
    def family(self) -> Family:
        assert self.chosen.family is not None
        return self.chosen.family

    @property
    def mean(self) -> float:
        return float(self.values.mean())

    @property
    def cv(self) -> float:
        """Coefficient of variation; 0 for one row."""
        return float(self.values.std() / self.mean)

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        low, median, p95, high = np.quantile(self.values, (0, 0.5, 0.95, 1)).tolist()
        return {
            "n": len(self.values), "mean": self.mean, "cv": self.cv, "min": low, "median": median, "p95": p95, "max": high,
            "chosen": self.chosen.kind, "candidates": [candidate.document() for candidate in self.candidates],
        }  # fmt: skip


def fit(values: np.ndarray) -> Fit:
    """Fit every family to durations, shape ``(n,)``, in seconds; n >= 1, and not all of them 0.

    Among the families whose AIC is within ``CLOSE`` of the lowest, those with the fewest parameters are taken, and of these
    the one with the lowest AIC. Durations that are all equal (within ``EQUAL``) are described by a constant, which has no
    likelihood to compare.
    """
    x = np.sort(values)
    if x[-1] - x[0] <= EQUAL * x.mean():
        constant = Constant.fit(x)
        distance = float(max((x < constant.mean).mean(), (x > constant.mean).mean()))
        only = Candidate("constant", constant, ks=distance)
        return Fit(x, (only,), only)
    candidates = sorted((_candidate(family, x) for family in FAMILIES), key=lambda one: math.inf if one.aic is None else one.aic)
    lowest = candidates[0].aic
    assert lowest is not None  # `uniform` always has one
    close = [
        ((one.family.free, one.aic), one)
        for one in candidates
        if one.family is not None and one.aic is not None and one.aic <= lowest + CLOSE
    ]
    _, chosen = min(close, key=lambda each: each[0])
    return Fit(x, tuple(candidates), chosen)


def _candidate(kind: type[Family], x: np.ndarray) -> Candidate:
    if kind.positive and x[0] == 0:
        return Candidate(kind.kind, None, refused="the trace has durations of 0 s")
    family = kind.fit(x)
    try:
        delays.parse(family.delay())
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        return Candidate(kind.kind, None, refused=f"a scenario does not take {where} {problem['input']!r}")
    likelihood = float(family.log_density(x).sum())
    return Candidate(kind.kind, family, likelihood, 2 * family.free - 2 * likelihood, distance(x, family))


def distance(x: np.ndarray, family: Family) -> float:
    """Kolmogorov-Smirnov distance of sorted durations from a continuous distribution."""
    n = len(x)
    share = family.cdf(x)
    above = np.arange(1, n + 1) / n - share
    below = share - np.arange(n) / n
    return float(max(above.max(), below.max()))
