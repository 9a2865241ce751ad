"""A text as numbers: bytes, or tokens of a vocabulary that the user brings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from asyncsim.errors import UserError
from asyncsim.paths import ScenarioPath
from asyncsim.registry import Spec
from asyncsim.tasks.data.topics import texts
from asyncsim.userfiles import MEGABYTE, read_bytes, read_json, read_text, regular, unpacked

BYTES = 256
MOST_TEXT = 200 * MEGABYTE
MOST_VOCABULARY = 50 * MEGABYTE
MARKS = {"Ġ": "gpt2", "▁": "sentencepiece"}
"""How vocabularies write a space, and what those that do so are called."""


class Vocabulary(Spec):
    """Tokens beside the 256 bytes: a text file with one on each line, a JSON list or object of them, or a ``tokenizer.json``. Of
    those that fit at a place of the text the longest is taken; where none does, the byte itself.

    ``size`` is the number of all, bytes among them: 256 and the distinct tokens of two bytes or more. ``marks`` says how spaces
    are written: as they are, in GPT-2's alphabet of bytes (``Ġ``), or as SentencePiece does (``▁``). Differs from the tokenizers
    that such files come from in not merging pair by pair, so a text may be divided at other places.
    """

    file: ScenarioPath
    size: int = Field(ge=BYTES + 1, le=2**31)
    marks: Literal["none", "gpt2", "sentencepiece"] = "none"


@dataclass(frozen=True, eq=False)
class Text:
    """Training and test text as numbers, ``(n,)`` int64 each."""

    train: np.ndarray
    test: np.ndarray


def load(file: str | None, test: float, vocabulary: Vocabulary | None) -> Text:
    """A file's text, of which the last share ``test`` is for testing, or Python's language reference. The same object each time.

    UserError where a file is unreadable or does not fit.
    """
    paths = [Path(each) for each in (file, vocabulary and vocabulary.file) if each]
    return _load(file, test, vocabulary, tuple(regular(path, MOST_TEXT).stat().st_mtime_ns for path in paths))


@lru_cache(maxsize=2)
def _load(file: str | None, test: float, vocabulary: Vocabulary | None, modified: tuple[int, ...]) -> Text:
    if file is None:
        parts = tuple(part.encode() for part in texts()[:2])
    else:
        content = unpacked(Path(file), read_bytes(Path(file), MOST_TEXT), MOST_TEXT)
        first = len(content) - round(test * len(content))
        parts = content[:first], content[first:]
    if vocabulary is None:
        return Text(*(np.frombuffer(part, np.uint8).astype(np.int64) for part in parts))
    numbers = tokens_of(vocabulary)
    return Text(*(divide(part, numbers) for part in parts))


def divide(text: bytes, tokens: dict[bytes, int]) -> np.ndarray:
    """The numbers of the tokens that ``text`` consists of, from left to right the longest that fits, else a byte."""
    begun = {token[:length]: -1 for token in tokens for length in range(1, len(token))} | tokens
    found, place = [], 0
    while place < len(text):
        number, end, until = text[place], place + 1, place + 2
        while until <= len(text) and (longer := begun.get(text[place:until])) is not None:
            if longer >= 0:
                number, end = longer, until
            until += 1
        found.append(number)
        place = end
    return np.array(found, np.int64)


def tokens_of(vocabulary: Vocabulary) -> dict[bytes, int]:
    """The tokens of two bytes or more and their numbers, from 256 on in the order of the file. UserError."""
    path, alphabet = Path(vocabulary.file), _alphabet() if vocabulary.marks == "gpt2" else {}
    found: dict[bytes, int] = {}
    words = list(_words(path))
    for where, word in words:
        mark = next((mark for mark, name in MARKS.items() if mark in word and vocabulary.marks == "none"), None)
        if mark:
            raise UserError(f"{where}: {word!r} seems to write a space as {mark}; say `marks: {MARKS[mark]}` in `vocabulary`")
        word = word.replace("▁", " ") if vocabulary.marks == "sentencepiece" else word
        token = bytes(alphabet[each] for each in word) if alphabet.keys() >= set(word) else word.encode("utf-8", "surrogatepass")
        if len(token) > 1:
            found.setdefault(token, BYTES + len(found))
    if 10 * sum(word.startswith("##") for _, word in words) > len(words):
        raise UserError(f"{path}: its tokens begin with ##, as WordPiece's do, which fit inside a word only; that is not read")
    if BYTES + len(found) != vocabulary.size:
        raise UserError(
            f"task.vocabulary.size: {path} has {len(found):,} distinct tokens of two bytes or more, so with the {BYTES} bytes it "
            f"is {BYTES + len(found):,} (it is {vocabulary.size:,})"
        )
    return found


def _words(path: Path) -> Iterator[tuple[str, str]]:
    """The tokens as they are written, each with its place for people."""
    if path.suffix != ".json":
        for line, word in enumerate(read_text(path, MOST_VOCABULARY).split("\n"), 1):
            yield f"{path}:{line}", word.removesuffix("\r")
        return
    content: Any = read_json(path, MOST_VOCABULARY)
    if isinstance(content, dict) and isinstance(content.get("model"), dict):  # a tokenizer.json
        content = content["model"].get("vocab")
    numbered = isinstance(content, dict) and all(type(number) is int for number in content.values())
    if not numbered and not (isinstance(content, list) and all(isinstance(word, str) for word in content)):
        raise UserError(f"{path}: is neither a list of tokens nor an object of tokens with their numbers")
    for word in content:
        yield f"{path}, token {json.dumps(word)}", word


def _alphabet() -> dict[str, int]:
    """The byte that each character of GPT-2's vocabularies stands for: printable ones for themselves, others from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = (byte for byte in range(BYTES) if byte not in plain)
    return {chr(byte): byte for byte in plain} | {chr(BYTES + index): byte for index, byte in enumerate(others)}
