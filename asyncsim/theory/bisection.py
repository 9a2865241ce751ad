"""Bisection down to neighbouring numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def bisected(holds: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """The two neighbouring floats between ``low``, where ``holds`` is true, and ``high``, where it is not, of which that is true
    as well."""
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return low, high
        low, high = (middle, high) if holds(middle) else (low, middle)


def crossing(values: Callable[[np.ndarray], np.ndarray], low: float, high: float) -> complex:
    """The value where a complex function of a real variable crosses the real axis between ``low`` and ``high``, at which its
    imaginary parts have different signs."""
    side = np.sign(values(np.array([low]))[0].imag)
    place, _ = bisected(lambda middle: bool(np.sign(values(np.array([middle]))[0].imag) == side), low, high)
    return complex(values(np.array([place]))[0])
