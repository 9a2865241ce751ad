"""The parameters of a shard: how far they have moved since a worker read them, and whether they are still finite."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from asyncsim.messages import Future, Snapshot
    from asyncsim.streams import Streams

NAN = float("nan")


class Parameters:
    """``params`` (P,), replaced by a new tensor at every ``version``; None where the timeline alone is simulated.

    When an update leaves non-finite parameters they have ``diverged``: the update and its time (ns) are noted, and nothing is
    ``numeric`` any more. ``statistics`` (B,) are the running ones of batch norm, where those are kept.
    """

    shapes: tuple[tuple[int, ...], ...] = ()  # of each parameter tensor in the flat vector, in order
    streams: Streams  # of the run's seed, for what transforms draw
    tables: tuple[tuple[slice, int], ...] = ()  # of embeddings: their pieces of the vector, and the length of a row

    def __init__(self, params: Tensor | None) -> None:
        self.params = params
        self.numeric = params is not None  # are gradients (still) computed?
        self.statistics: Tensor | None = None  # (B,) running batch-norm statistics, where they are kept
        self.average: Callable[[Tensor, Tensor], Tensor] | None = None  # takes those of a batch into the running ones
        self.version = 0
        self.diverged: tuple[int, int] | None = None
        self._updated = 0  # time of the last update
        self._scratch: Tensor | None = None  # (P,) params - snapshot of the last arrival
        self._moved: Snapshot | None = None  # that snapshot, while nobody has taken the scratch
        self._unchecked: list[tuple[int, int, Tensor]] = []  # version, its time, and a number that is finite if it is
        self._check_every = 1 if params is None or params.device.type == "cpu" else 64  # to look at a number stops a GPU

    @property
    def unbiased(self) -> Tensor | None:
        """What a worker would read, but for a look-ahead: ``params``, unless an exchange has given them a bias."""
        return self.params

    def moved(self, snapshot: Snapshot) -> Tensor:
        """``unbiased - snapshot``, shape ``(P,)``, for the caller to overwrite; 0 where the snapshot leaves parameters out."""
        scratch = self._scratch
        if self._moved is not snapshot or scratch is None:
            params, handed = self.unbiased, snapshot.params
            assert params is not None
            assert handed is not None
            scratch = self._subtract(params, handed, snapshot)
        self._moved = None
        return scratch

    def _subtract(self, params: Tensor, handed: Tensor, snapshot: Snapshot) -> Tensor:
        moved = params - handed
        if snapshot.trained is not None:
            moved.masked_fill_(~snapshot.trained, 0)
        self._scratch = moved
        self._moved = snapshot
        return moved

    def check_finite(self) -> None:
        """Note divergence, if the parameters are not finite any more."""
        if self.params is not None and self.numeric:
            self._unchecked.append((self.version, self._updated, self.params.sum()))
            self._look()

    def keep_statistics(self, payload: Future) -> None:
        """Average the batch-norm statistics of an applied gradient into the running ones, where those are wanted."""
        if self.statistics is not None and self.average is not None:
            arrived = payload.result().statistics
            if arrived is not None:  # else no batch went into it
                self.statistics = self.average(self.statistics, arrived)

    def _gap(self, snapshot: Snapshot) -> Tensor | float:
        """L2 distance that the parameters have moved since the read. What it costs also tells whether they are still finite."""
        params, handed = self.unbiased, snapshot.params
        if params is None or handed is None or not self.numeric:
            return NAN
        gap: Tensor | float = 0.0
        if handed is params:
            square = params.sum()
        else:
            moved = self._subtract(params, handed, snapshot)
            square = moved.dot(moved)
            gap = square.sqrt()
        self._unchecked.append((self.version, self._updated, square))
        if len(self._unchecked) >= self._check_every:
            self._look()
        return gap if self.numeric else NAN

    def _look(self) -> None:
        """Find the first update that left non-finite parameters. (A square or a sum alone may also be too large for a float.)"""
        unchecked, self._unchecked = self._unchecked, []
        suspects = [(version, time) for version, time, value in unchecked if not math.isfinite(float(value))]
        if suspects and self.params is not None and not self.params.isfinite().all():
            self.diverged = suspects[0]
            self.numeric = False
