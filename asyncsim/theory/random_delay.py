"""Gradient descent with delays from any list of values, such as measured times, in continuous time: the equation of the mean.

``E x'(t) = -a E x(t - T)``, T drawn independently of x; the roots of ``s + a E exp(-s T) = 0`` decide. Derived here
(standard); as in `gamma_delay` it is the mean that is spoken of. """

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.bisection import crossing
from asyncsim.theory.checks import all_positive, distribution, positive

STARTS = 24
"""Starts of Newton's iteration, each way."""


def random_delay_limit(delays: Sequence[float], shares: Sequence[float] | None = None) -> float:
    """The largest ``a`` for which the mean converges, in 1 over the unit of ``delays``; infinite if none is found.

    The first root to cross the imaginary axis, at ``s = i w``, does so where ``-i w / E exp(-i w T)`` is real and positive; the
    smallest such number is the limit. Frequencies are searched up to 200 over the mean delay. ``shares`` are the
    probabilities of ``delays``, equal ones if left out. Raises ``UserError`` for an empty list, a delay that is not above 0, or
    shares that are no distribution.

    >>> round(random_delay_limit([2.0]), 6)  # pi / 2 over the delay
    0.785398
    """
    times, weights = _law(delays, shares)
    mean = float(weights @ times)
    fastest = float(times.max()) / mean
    frequencies = np.linspace(0, 200, math.ceil(200 * 16 * max(1.0, min(fastest, 20.0))) + 1)[1:] / mean

    def step(w: np.ndarray) -> np.ndarray:
        return -1j * w / (np.exp(-1j * np.outer(w, times)) @ weights)

    found: list[float] = []
    for part in np.array_split(frequencies, max(1, len(frequencies) * len(times) // 2_000_000)):
        values = step(part)
        for place in np.flatnonzero(np.sign(values.imag[:-1]) * np.sign(values.imag[1:]) < 0):
            here = crossing(step, part[place], part[place + 1])
            if here.real > 0 and abs(here.imag) < 1e-3 * abs(here):  # neither a pole nor a negative number
                found.append(float(here.real))
    return min(found, default=math.inf)


def random_delay_rate(a: float, delays: Sequence[float], shares: Sequence[float] | None = None) -> float:
    """The rate of convergence of the mean, in 1 over the unit of ``delays``; negative where the mean diverges.

    Newton's iteration from a grid of starts, from 12 over the mean delay to the left of the imaginary axis to 4 to its
    right and up to 30 over it; that no root lies further right is then checked by the argument principle. Raises ``UserError``
    as `random_delay_limit` does, and if the check fails.

    >>> round(random_delay_rate(0.1, [1.0]), 4)
    0.1118
    """
    positive(a=a)
    times, weights = _law(delays, shares)
    mean = float(weights @ times)
    grid = np.linspace(-12, 4, STARTS)[:, None] + 1j * np.linspace(0, 30, STARTS)[None, :]
    s = np.concatenate([grid.ravel(), -np.geomspace(1e-6, 1, STARTS), [-a * mean]]) / mean
    with np.errstate(all="ignore"):
        for _ in range(80):
            powers = np.exp(-np.outer(s, times)) * weights
            value, slope = s + a * powers.sum(axis=1), 1 - a * powers @ times
            s = s - value / slope
        left = np.abs(s + a * (np.exp(-np.outer(s, times)) @ weights)) < 1e-9 * (a + np.abs(s))
    roots = s[left & np.isfinite(s)]
    if not len(roots):
        raise UserError(f"a: {a:g} has no root that was found, for delays of mean {mean:g}")
    right = float(roots.real.max())
    if _roots_right_of(right + 1e-3 / mean, a, times, weights):
        raise UserError(f"a: {a:g} has a root that was not found, for delays of mean {mean:g}")
    return -right


def _roots_right_of(line: float, a: float, times: np.ndarray, weights: np.ndarray) -> int:
    """How many roots have a real part above ``line``, by the argument principle.

    ``g(s) = (s + a E exp(-s T)) / (s - line + 1 / mean)`` has no pole there and goes to 1 far away, so going up the line and back
    along a wide arc, on which g stays near 1, it turns by minus a whole turn for each root.
    """
    shift = 1 / float(weights @ times) - line
    top = 4 * (a * float(np.exp(-line * times) @ weights) + abs(line) + abs(shift))
    points = min(200_000, math.ceil(64 * (1 + top * float(times.max()))))
    s = line + 1j * np.linspace(-top, top, 2 * points + 1)
    pieces = np.array_split(s, max(1, len(s) * len(times) // 2_000_000))
    g = np.concatenate([(part + a * (np.exp(-np.outer(part, times)) @ weights)) / (part + shift) for part in pieces])
    turned = float(np.angle(g[1:] / g[:-1]).sum()) + float(np.angle(g[0]) - np.angle(g[-1]))
    return -round(turned / (2 * math.pi))


def _law(delays: Sequence[float], shares: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray]:
    times = all_positive("delays", delays)
    weights = np.full(len(times), 1 / len(times)) if shares is None else distribution("shares", shares)
    if len(weights) != len(times):
        raise UserError(f"shares: {len(weights)} probabilities for {len(times)} delays")
    return times, weights
