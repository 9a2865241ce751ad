"""Named random streams: every draw is a pure function of (seed, purpose, key).

No stream depends on another one having been used, so adding a worker, a policy or a record changes nobody else's
draws, and methods are compared on the same stragglers (common random numbers).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from fractions import Fraction
from typing import Protocol

import numpy as np

BLOCK = 64
"""The number of draws taken from one stream at a time. It is part of the determinism contract: another value gives other
numbers."""


class Streams:
    """``streams("compute", worker, block)`` is a fresh generator, the same one for the same words, on any machine.

    The generator is a counter-based Philox whose 128-bit key is the BLAKE2b hash of seed, purpose and key.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def __call__(self, purpose: str, *key: int) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self.integer(purpose, *key, bits=128)))

    def integer(self, purpose: str, *key: int, bits: int = 64) -> int:
        """The hash itself as an integer, for generators that are not NumPy's (a ``torch.Generator`` takes it as its seed)."""
        words = "/".join([str(self.seed), purpose, *map(str, key)])
        return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=bits // 8).digest(), "little")


class Exhausted(Exception):
    """Raised where a recorded sequence has no further value, and the settings say that its worker leaves then (``end: stop``)."""


class StepValues(Protocol):
    """The values of one worker for one purpose, addressed by step. They are drawn (`Draws`), or read from a file, which may hold
    times that no float is near enough to."""

    def __getitem__(self, step: int, /) -> float | Fraction: ...

    def total(self, first: int, count: int) -> float | Fraction:
        """The sum of ``count`` values from step ``first`` on."""
        ...


class Draws:
    """The sequence of draws of one worker for one purpose, addressed by step.

    ``sample(rng, size)`` returns an array of shape ``(size,)``. Blocks of ``BLOCK`` are drawn at once, each from its
    own stream, so step 1,000 can be had without the 999 before it.
    """

    __slots__ = ("_block", "_key", "_purpose", "_sample", "_streams", "_values")

    def __init__(
        self,
        streams: Streams,
        purpose: str,
        key: tuple[int, ...],
        sample: Callable[[np.random.Generator, int], np.ndarray],
    ) -> None:
        self._streams = streams
        self._purpose = purpose
        self._key = key
        self._sample = sample
        self._block = -1
        self._values: np.ndarray = np.empty(0)

    def __getitem__(self, step: int) -> float:
        block, offset = divmod(step, BLOCK)
        if block != self._block:
            self._values = self._sample(self._streams(self._purpose, *self._key, block), BLOCK)
            self._block = block
        return float(self._values[offset])

    def total(self, first: int, count: int) -> float:
        """The sum of ``count`` draws from step ``first`` on."""
        return sum(self[first + index] for index in range(count))
