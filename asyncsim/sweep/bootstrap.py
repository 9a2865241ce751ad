"""Confidence intervals of means over seeds by the percentile bootstrap; the same values give the same interval every time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

EXACT = 50_000
RESAMPLES = 10_000


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """The bounds between which the share ``level`` of the means of resamples of ``values``, shape ``(n,)``, lies; NaN for fewer
    than two values.

    Up to five values, all n^n resamples are counted, each once; for more, 10,000 are drawn from a stream with a fixed seed.
    With two values the bounds are the values themselves, and with few values they are too narrow: an interval over three
    seeds proves nothing.
    """
    sample = np.asarray(values, dtype=np.float64)
    size = len(sample)
    if size < 2:
        return math.nan, math.nan
    if size**size <= EXACT:
        chosen = np.array(list(product(range(size), repeat=size)))
    else:
        chosen = np.random.default_rng(0).integers(size, size=(RESAMPLES, size))
    means = sample[chosen].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return float(low), float(high)
