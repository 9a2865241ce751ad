"""Endless walks through sample numbers: which samples a worker sees at which step, a function of (seed, worker, step).

A sampler answers for a block of steps at a time, so that drawing costs little per step, and remembers little:
whole permutations only in a small cache, whatever the number of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

import numpy as np

from asyncsim.errors import UserError
from asyncsim.streams import Streams

CACHED = 2**24
"""The number of entries of permutations that are kept (int32, so 64 MiB)."""

BLOCK = 2048
"""The number of samples drawn at a time. It is part of the determinism contract for `uniform`: another value gives other
batches."""


T = TypeVar("T")


class Recent(Generic[T]):
    """Keep what was drawn last for each worker: two pieces of its endless sequence, and ``most`` pieces of all workers together.

    ``draw(worker, number)`` makes piece ``number``, and may be asked again for one that was forgotten. Two are enough, as a
    worker goes forward and may still hold work that began in the piece before; so a long run needs no more than a short one.
    """

    def __init__(self, draw: Callable[[int, int], T], most: int) -> None:
        self._draw = draw
        self._most = max(1, most)
        self._kept: dict[tuple[int, int], tuple[int, T]] = {}

    def __call__(self, worker: int, number: int) -> T:
        place = worker, number % 2
        kept = self._kept.get(place)
        if kept is not None and kept[0] == number:
            return kept[1]
        self._kept.pop(place, None)  # it comes in again as the newest
        while len(self._kept) >= self._most:
            del self._kept[next(iter(self._kept))]
        piece = self._draw(worker, number)
        self._kept[place] = number, piece
        return piece


class Sampler(Protocol):
    """Says which samples are in which batch. ``steps`` is the length of a block of steps; ``block`` returns the sample numbers
    of one block, int64 of shape ``(steps, batch)``."""

    steps: int

    def block(self, worker: int, number: int) -> np.ndarray: ...


def block_steps(batch: int) -> int:
    """The number of steps in a block: `BLOCK` samples, but at least one step."""
    return max(1, BLOCK // batch)


class Walk:
    """Each worker walks its samples in its own shuffled order, and in a new one each time round.

    The order of round e is drawn from ``streams("batch", worker, e)``. A batch that reaches the end goes on with the next
    round, so every batch has exactly ``batch`` samples and every sample comes once a round. ``shards`` holds each worker's
    sample numbers; without it everyone walks all ``size`` of them.

    UserError where a batch is larger than what it is drawn from, or for a worker that has no shard.
    """

    def __init__(self, size: int, batch: int, streams: Streams, shards: Sequence[np.ndarray] | None = None) -> None:
        self.steps = block_steps(batch)
        self._size = size
        self._batch = batch
        self._streams = streams
        self._shards = shards
        self.shard_sizes = tuple(map(len, shards or ()))
        smallest = min(map(len, shards)) if shards else size
        if batch > smallest:
            what = "the smallest worker's shard of the training set" if shards else "the training set"
            raise UserError(f"task.batch: {batch} samples are more than {what} holds ({smallest}); lower `batch`")
        self._permutation = Recent(self._draw, CACHED // size)

    def block(self, worker: int, number: int) -> np.ndarray:
        shard = self._shard(worker)
        size = self._size if shard is None else len(shard)
        wanted = self.steps * self._batch
        round_, offset = divmod(number * wanted, size)
        parts = []
        while wanted > 0:
            parts.append(self._permutation(worker, round_)[offset : offset + wanted])
            wanted -= len(parts[-1])
            round_, offset = round_ + 1, 0
        numbers = np.concatenate(parts)
        return (numbers.astype(np.int64) if shard is None else shard[numbers]).reshape(self.steps, self._batch)

    def _draw(self, worker: int, round_: int) -> np.ndarray:
        size = len(self._shards[worker]) if self._shards else self._size
        return self._streams("batch", worker, round_).permutation(size).astype(np.int32)

    def _shard(self, worker: int) -> np.ndarray | None:
        if self._shards is None:
            return None
        if worker >= len(self._shards):
            raise UserError(
                f"task.partition: worker {worker} has no shard, the training set was split among {len(self._shards)} workers; "
                "use `shuffled` or `uniform` where workers join later"
            )
        return self._shards[worker]


class OneOrder(Walk):
    """A walk that all workers take together: step ``i`` is the same batch for each of them. Within a round samples of a smaller
    number in ``groups``, shape ``(size,)``, come first."""

    def __init__(self, size: int, batch: int, streams: Streams, groups: np.ndarray | None = None) -> None:
        super().__init__(size, batch, streams)
        self._groups = groups

    def block(self, worker: int, number: int) -> np.ndarray:
        return super().block(0, number)

    def _draw(self, worker: int, round_: int) -> np.ndarray:
        order = super()._draw(worker, round_)
        return order if self._groups is None else order[np.argsort(self._groups[order], kind="stable")]


class Independent:
    """Every sample of every batch is drawn anew, with replacement, from ``streams("batch", worker, block)``."""

    def __init__(self, size: int, batch: int, streams: Streams) -> None:
        self.steps = block_steps(batch)
        self._size = size
        self._batch = batch
        self._streams = streams

    def block(self, worker: int, number: int) -> np.ndarray:
        return self._streams("batch", worker, number).integers(self._size, size=(self.steps, self._batch))
