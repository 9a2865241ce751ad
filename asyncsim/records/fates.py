"""Which work is used in the end, as a finished timeline shows."""

from __future__ import annotations

import numpy as np

from asyncsim.records.rows import counts


class Fates:
    """A container of the work that was used: ``(worker, step) in fates`` tells whether that result was applied or buffered, and
    not dropped or lost."""

    def __init__(self, updates: dict[str, np.ndarray]) -> None:
        used = counts(updates["outcome"])
        keys = updates["worker"][used].astype(np.int64) << 40 | updates["step"][used]
        self._keys = set(keys.tolist())

    def __contains__(self, work: tuple[int, int]) -> bool:
        worker, step = work
        return worker << 40 | step in self._keys
