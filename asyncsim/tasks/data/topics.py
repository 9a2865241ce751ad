"""English text that every CPython carries: the language reference behind ``help()``."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from asyncsim.errors import DataMissing

ALPHABET = "\n" + "".join(map(chr, range(32, 127)))
VOCABULARY = len(ALPHABET) + 1
"""96 characters and one for all others. Fixed, though Python's text is not: model sizes must not depend on the Python."""


@lru_cache(maxsize=1)
def topics() -> tuple[np.ndarray, np.ndarray, str]:
    """Training and test text as characters 0..96, int64, and the SHA-256 of the whole text."""
    train, test, digest = texts()
    return encode(train), encode(test), digest


def texts() -> tuple[str, str, str]:
    """Training and test text, and the SHA-256 of the whole text.

    Topics in alphabetical order, the last tenth of them for testing. The text changes even between patch releases of Python.
    """
    try:
        from pydoc_data.topics import topics as pages
    except ImportError as error:
        raise DataMissing(
            f"this Python has no pydoc_data.topics ({error}), the text of `pydoc_lm`; install Python's standard library in full, "
            "or use `digits`"
        ) from error
    names = sorted(pages)
    first = len(names) - max(1, len(names) // 10)
    whole = "\n\n".join(pages[name] for name in names)
    train, test = ("\n\n".join(pages[name] for name in part) for part in (names[:first], names[first:]))
    return train, test, hashlib.sha256(whole.encode()).hexdigest()


def encode(text: str) -> np.ndarray:
    """Characters to numbers, shape ``(len(text),)``; what is not in the alphabet becomes 96."""
    table = np.full(128, VOCABULARY - 1, dtype=np.int64)
    table[[ord(character) for character in ALPHABET]] = np.arange(len(ALPHABET))
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    return table[np.minimum(codes, 127)]
