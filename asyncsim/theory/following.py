"""Follow two complex roots that leave the real axis where two real ones have met."""

from __future__ import annotations

import math
from collections.abc import Callable

Function = Callable[[complex], complex]


def followed(function: Function, slope: Function, top: float, bend: float, low: float, high: float) -> complex:
    """The root in the upper half plane of ``function(s) = high``.

    On the real axis ``function`` has its maximum ``low`` at ``top``, with second derivative ``-bend``; ``slope`` is its
    derivative. For a level above ``low`` the roots are complex, first ``top +- i sqrt(2 (level - low) / bend)``; from there on
    the level is raised in steps of at most 1/16, each followed by Newton's iteration.
    """
    steps = max(8, math.ceil(16 * (high - low)))
    s = top + 1j * math.sqrt(2 * (high - low) / steps / bend)
    for step in range(1, steps + 1):
        level = low + (high - low) * step / steps
        for _ in range(60):
            move = (function(s) - level) / slope(s)
            s -= move
            if abs(move) < 1e-15 * (1 + abs(s)):
                break
    return s
