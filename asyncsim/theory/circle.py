"""Averages over the unit circle of functions with narrow peaks, by adaptive Gauss-Legendre quadrature."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

NODES, WEIGHTS = np.polynomial.legendre.leggauss(12)
MOST_ROUNDS = 60
"""Of halving. A peak that is narrower than 2^-60 of the circle is taken for a pole."""


def circle_means(function: Callable[[np.ndarray], np.ndarray], pieces: int, tolerance: float = 1e-12) -> np.ndarray:
    """The averages ``(n,)`` over ``z = exp(i theta)`` of n functions that are equal at z and its conjugate; infinite where they
    do not settle.

    ``function`` takes points ``(p,)`` and returns ``(n, p)``. The upper half of the circle is cut into ``pieces``; a piece is
    halved until its integrals agree with those of its halves within ``tolerance`` times the largest of the sums.
    """
    low = math.pi * np.arange(pieces) / pieces
    high = low + math.pi / pieces
    whole = _integrals(function, low, high)
    settled = np.zeros(len(whole))
    for _ in range(MOST_ROUNDS):
        middle = (low + high) / 2
        left, right = _integrals(function, low, middle), _integrals(function, middle, high)
        halves = left + right
        scale = np.max(np.abs(settled + halves.sum(axis=1)))
        if not math.isfinite(scale):
            break
        wrong = np.max(np.abs(halves - whole), axis=0) > tolerance * scale
        settled = settled + halves[:, ~wrong].sum(axis=1)
        if not wrong.any():
            return settled / math.pi
        low, high = np.concatenate([low[wrong], middle[wrong]]), np.concatenate([middle[wrong], high[wrong]])
        whole = np.concatenate([left[:, wrong], right[:, wrong]], axis=1)
    return np.full(len(whole), math.inf)


def _integrals(function: Callable[[np.ndarray], np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Over each piece: ``(n, pieces)``."""
    half = (high - low) / 2
    angles = ((low + high) / 2)[:, None] + half[:, None] * NODES
    values = function(np.exp(1j * angles.ravel()))
    return (values.reshape(len(values), *angles.shape) @ WEIGHTS) * half
