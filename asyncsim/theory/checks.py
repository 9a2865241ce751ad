"""Check the arguments of formulas: one clear error that names the argument, its value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asyncsim.errors import UserError


def positive(**values: float) -> None:
    """Raise ``UserError`` unless every value is a finite number above 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{name}: {value!r} must be a finite number above 0")


def not_negative(**values: float) -> None:
    """Raise ``UserError`` unless every value is a finite number of at least 0."""
    for name, value in values.items():
        if not (math.isfinite(value) and value >= 0):
            raise UserError(f"{name}: {value!r} must be a finite number of at least 0")


def between(low: float, high: float, **values: float) -> None:
    """Raise ``UserError`` unless every value lies strictly between ``low`` and ``high``."""
    for name, value in values.items():
        if not low < value < high:
            raise UserError(f"{name}: {value!r} must lie between {low:g} and {high:g}, both excluded")


def counts(**values: int) -> None:
    """Raise ``UserError`` unless every value is a whole number of at least 1."""
    for name, value in values.items():
        if value != int(value) or value < 1:
            raise UserError(f"{name}: {value!r} must be a whole number of at least 1")


def momentum_of(momentum: float) -> None:
    """Raise ``UserError`` unless the momentum is at least 0 and below 1."""
    if not 0 <= momentum < 1:
        raise UserError(f"momentum: {momentum!r} must be at least 0 and below 1")


def all_positive(name: str, values: Sequence[float] | np.ndarray) -> np.ndarray:
    """``values`` as a float64 array ``(n,)``, n at least 1. Raises ``UserError`` if it is empty or has an entry that is not
    above 0."""
    array = np.asarray(values, dtype=np.float64).reshape(-1)
    if not len(array):
        raise UserError(f"{name}: give at least one number")
    wrong = ~(np.isfinite(array) & (array > 0))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise UserError(f"{name}[{place}]: {float(array[place])!r} must be a finite number above 0")
    return array


def distribution(name: str, shares: Sequence[float] | np.ndarray) -> np.ndarray:
    """Probabilities ``(n,)`` as float64, made to sum to exactly what float64 gives for 1.

    Raises ``UserError`` if there is none, one is negative, or their sum is not 1 within 1e-6.
    """
    array = np.asarray(shares, dtype=np.float64).reshape(-1)
    if not len(array):
        raise UserError(f"{name}: give at least one probability")
    wrong = ~(np.isfinite(array) & (array >= 0))
    if wrong.any():
        place = int(np.argmax(wrong))
        raise UserError(f"{name}[{place}]: {float(array[place])!r} must be a probability of at least 0")
    total = float(array.sum())
    if abs(total - 1) > 1e-6:
        raise UserError(f"{name}: the probabilities sum to {total:.6g}; allowed is 1")
    return array / total
