"""Test whether the workers of a trace differ (an analysis of variance of log durations), and estimate by how much."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from scipy.special import fdtrc

SIGNIFICANT = 1e-3
MATERIAL = 0.02
"""Coefficient of variation between workers below which they are treated as equal, even where many rows make a difference
significant."""


class Differences(NamedTuple):
    """How the workers of a trace differ.

    The model is that of the delay `cvb`. With m_i the mean of worker i and r = duration / m_i, ``cv_batch`` is the standard
    deviation of r within workers. ``cv_machine`` is the standard deviation of the m_i over their mean, after subtracting the
    part that the variation of batches alone would cause.
    """

    workers: tuple[Any, ...]
    counts: tuple[int, ...]
    means: tuple[float, ...]
    cv_machine: float
    cv_batch: float
    p: float | None
    """P-value of the F test that all workers are equal, made on log durations (on the durations themselves if some are zero).
    None where the test cannot be made."""
    autocorrelation: float | None
    """Correlation of r between one row of a worker and its next."""

    @property
    def heterogeneous(self) -> bool:
        """Do the workers differ? They do if p is below ``SIGNIFICANT`` and ``cv_machine`` is at least ``MATERIAL``."""
        return self.p is not None and self.p < SIGNIFICANT and self.cv_machine >= MATERIAL

    @property
    def mean(self) -> float:
        """The mean of the workers' means, in which each worker counts once."""
        return math.fsum(self.means) / len(self.means)

    @property
    def factors(self) -> tuple[float, ...]:
        """The workers' means, divided by the mean of all."""
        return tuple(mean / self.mean for mean in self.means)

    def document(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "heterogeneous": self.heterogeneous, "p": self.p, "cv_machine": self.cv_machine, "cv_batch": self.cv_batch,
            "autocorrelation": self.autocorrelation, "mean_of_workers": self.mean,
            "workers": [
                {"worker": worker, "n": n, "mean": mean}
                for worker, n, mean in zip(self.workers, self.counts, self.means, strict=True)
            ],
        }  # fmt: skip


def differences(workers: dict[Any, np.ndarray]) -> Differences:
    """Compare workers by their durations, shapes ``(rows,)`` with at least one row each."""
    values = list(workers.values())
    counts = np.array([len(each) for each in values])
    means = np.array([each.mean() for each in values])
    total, number = int(counts.sum()), len(values)
    ratios = [each / mean if mean else each for each, mean in zip(values, means, strict=True)]
    cv_batch = cv_machine = 0.0
    if total > number:
        cv_batch = math.sqrt(sum(float(((each - each.mean()) ** 2).sum()) for each in ratios) / (total - number))
    if number > 1:
        by_chance = cv_batch**2 * float((means**2 / counts).mean())
        cv_machine = math.sqrt(max(0.0, float(means.var(ddof=1)) - by_chance)) / float(means.mean())
    return Differences(
        tuple(workers), tuple(counts.tolist()), tuple(means.tolist()), cv_machine, cv_batch, _p(values), _autocorrelation(ratios)
    )  # fmt: skip


def _p(values: list[np.ndarray]) -> float | None:
    """Upper tail of F = (between / (N - 1)) / (within / (n - N)); None where one of the two has no degrees of freedom."""
    total, number = sum(map(len, values)), len(values)
    if number < 2 or total <= number:
        return None
    if all(each.min() > 0 for each in values):
        values = [np.log(each) for each in values]
    grand = sum(float(each.sum()) for each in values) / total
    between = sum(len(each) * (float(each.mean()) - grand) ** 2 for each in values)
    within = sum(float(((each - each.mean()) ** 2).sum()) for each in values)
    if within == 0:
        return 0.0 if between > 0 else 1.0
    return float(fdtrc(number - 1, total - number, between / (number - 1) / (within / (total - number))))


def _autocorrelation(ratios: list[np.ndarray]) -> float | None:
    """The autocorrelation at lag one; None where no worker has two rows, or where nothing varies."""
    centred = [each - each.mean() for each in ratios if len(each) > 1]
    square = sum(float(each @ each) for each in centred)
    return sum(float(each[:-1] @ each[1:]) for each in centred) / square if square > 0 else None
