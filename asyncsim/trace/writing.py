"""Write a trace file: JSON that is written piece by piece, and appears whole or not at all."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asyncsim.errors import UserError
from asyncsim.records.directory import discard


class TraceFile:
    """A JSON object with the list ``traceEvents``, one event a line."""

    def __init__(self, file: _Encoded, head: Mapping[str, Any]) -> None:
        self._file = file
        self._first = True
        self.count = 0
        file.write(json.dumps(dict(head), allow_nan=False)[:-1] + (", " if head else "") + '"traceEvents": [\n')

    def write(self, events: Iterable[str]) -> None:
        """Append events, each the text of a JSON object."""
        lines = events if isinstance(events, list) else list(events)
        if not lines:
            return
        self._file.write(("" if self._first else ",\n") + ",\n".join(lines))
        self._first = False
        self.count += len(lines)

    def close(self) -> None:
        self._file.write("\n]}\n")


@contextmanager
def trace_file(path: Path, head: Mapping[str, Any]) -> Iterator[TraceFile]:
    """Write beside ``path``, then rename. A name that ends in ``.gz`` is compressed. ``UserError`` if it can't be written."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
                    yield from _text(packed, head)
            else:
                yield from _text(raw, head)
            raw.flush()
            os.fsync(raw.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        discard(temporary)


def _text(raw: Any, head: Mapping[str, Any]) -> Iterator[TraceFile]:
    text = _Encoded(raw)
    file = TraceFile(text, head)
    yield file
    file.close()


class _Encoded:
    """Encodes text for a binary file that somebody else opens and closes."""

    def __init__(self, raw: Any) -> None:
        self._raw = raw

    def write(self, text: str) -> None:
        self._raw.write(text.encode())
