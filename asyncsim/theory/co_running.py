"""What phones save that train while their user runs an application anyway, and who is to wait for one if all is known ahead.

Source: C. Wang, H. Wu et al., ICDCS 2022: the offline optimum over a window is a 0/1 knapsack, solved by a dynamic programme in
O(n L) steps. Its bound of the lag within the window is not here: gaps are given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from asyncsim.errors import UserError
from asyncsim.theory.checks import not_negative, positive

MOST = 100_000_000


def co_running_saving(train: float, seconds: float, app: float, both: float, both_seconds: float) -> float:
    """The share of energy that is saved by training beside an application instead of after it; negative where it loses.

    It is ``1 - both * both_seconds / (train * seconds + app * both_seconds)``: ``train`` watts for ``seconds`` alone, ``both``
    watts for ``both_seconds`` together, ``app`` watts for the application alone.

    >>> round(co_running_saving(1.8, 204, 3.4, 3.5, 274), 3)   # Map on a Nexus 6
    0.262
    """
    positive(train=train, seconds=seconds, both_seconds=both_seconds)
    not_negative(app=app, both=both)
    return 1 - both * both_seconds / (train * seconds + app * both_seconds)


def co_running_optimum(savings: Sequence[float], gaps: Sequence[int], bound: int) -> tuple[int, ...]:
    """The devices, by their places, that are to wait for their application, if all of a window is known ahead::

        maximise  sum of savings[i] x[i]   subject to   sum of gaps[i] x[i] <= bound,   x[i] in {0, 1}

    Gaps are whole numbers of at least 0, of a unit that is yours; the answer is exact, and who saves nothing is not in it. It
    takes ``len(savings) * bound`` steps; raises ``UserError`` where that is above 1e8.

    >>> co_running_optimum([6.0, 5.0, 5.0], [6, 5, 5], bound=10)
    (1, 2)
    """
    if len(savings) != len(gaps):
        raise UserError(f"gaps: {len(gaps)} for {len(savings)} savings")
    for place, gap in enumerate(gaps):
        if gap != int(gap) or gap < 0:
            raise UserError(f"gaps[{place}]: {gap!r} must be a whole number of at least 0")
    gaps = [int(gap) for gap in gaps]
    if not all(map(math.isfinite, savings)):
        raise UserError("savings: all must be finite")
    not_negative(bound=bound)
    room = int(min(bound, sum(gaps)))
    if len(gaps) * room > MOST:
        raise UserError(f"bound: {bound} is too large for {len(gaps)} devices; take a coarser unit of gaps")
    best = np.zeros(room + 1)  # by the room that there is
    taken = np.zeros((len(gaps), room + 1), dtype=bool)
    for place, (saving, gap) in enumerate(zip(savings, gaps, strict=True)):
        if saving > 0 and gap <= room:
            with_it = best[: room + 1 - gap] + saving
            taken[place, gap:] = with_it > best[gap:]
            best[gap:] = np.maximum(best[gap:], with_it)
    chosen: list[int] = []
    for place in reversed(range(len(gaps))):
        if taken[place, room]:
            chosen.append(place)
            room -= gaps[place]
    return tuple(reversed(chosen))
