"""MSPipe: how stale a node's memory must be allowed to be, so that training on a temporal graph never waits for it.

A batch of temporal edges goes through five stages: (1) sample neighbours, (2) fetch features, (3) fetch node memory, (4)
train, (5) write node memory. A stage takes one batch at a time, (2) and (3) share one copy engine, and memory is fetched for
batch i only when batch ``i - k`` has written its own. Source: G. Sheng et al., "MSPipe: efficient temporal GNN training via
staleness-aware pipeline", KDD 2024 (arXiv 2402.15113), constraints read in a transcription. The closed forms below are
derived here; the paper has a search. """

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from asyncsim.errors import UserError
from asyncsim.theory.checks import all_positive, counts


class MemoryStaleness(NamedTuple):
    """``k`` is the smallest bound with which training never waits for memory, ``period`` the time of a batch in the long run
    with it.

    ``proved`` is False where sampling or writing takes longest. The period holds there as well, but a larger k may be needed
    before nothing waits at the start, and if writing takes longest its backlog grows without end. """

    k: int
    period: float
    proved: bool


def memory_staleness(stages: Sequence[float]) -> MemoryStaleness:
    """The smallest bound ``k = ceil((t3 + t4 + t5) / T)`` with ``T = max(t1, t2 + t3, t4, t5)``, for stage times t1 to t5.

    ``T`` is the period of a pipeline without the bound: what its busiest resource takes. Raises ``UserError`` unless there
    are five times above 0.

    >>> memory_staleness([1.0, 1.0, 1.0, 2.0, 1.0])
    MemoryStaleness(k=2, period=2.0, proved=True)
    """
    sample, features, memory, train, write = _five(stages)
    busiest = max(sample, features + memory, train, write)
    k = math.ceil((memory + train + write) / busiest * (1 - 1e-12))
    return MemoryStaleness(k, busiest, busiest in (features + memory, train))


def memory_period(stages: Sequence[float], k: int) -> float:
    """The time of a batch in the long run with the bound k: ``max(T, (t3 + t4 + t5) / k)``. ``k = 1`` is the schedule that waits.

    >>> memory_period([1.0, 1.0, 1.0, 2.0, 1.0], k=1)
    4.0
    """
    sample, features, memory, train, write = _five(stages)
    counts(k=k)
    return max(sample, features + memory, train, write, (memory + train + write) / k)


def _five(stages: Sequence[float]) -> tuple[float, ...]:
    times = all_positive("stages", stages)
    if len(times) != 5:
        raise UserError(f"stages: {len(times)} times; allowed are five: sample, fetch features, fetch memory, train, write")
    return tuple(float(each) for each in times)
