"""Events that happen once, to some workers, at a given time, listed in the scenario or in a file."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, model_validator

from asyncsim.cluster.fields import Positive, Several, WorkerIndex
from asyncsim.registry import Spec, located
from asyncsim.units import PositiveSeconds, Seconds


class Event(Spec):
    """Something that happens once, at the time ``at``, to the listed workers. Exactly one of these fields says what:

    - ``slowdown``: work takes so many times longer, for ``duration`` (for ever if that is left out).
    - ``down``: the workers crash, lose what they do, and are back after so long.
    - ``stop``: the workers leave for good.
    - ``leave``: the workers leave the group, until an event with ``join`` brings them back.
    - ``join``: the workers join. One whose first event is a ``join`` is absent from the start until then.
    """

    at: Seconds
    workers: Several[WorkerIndex]
    slowdown: Positive | None = None
    duration: PositiveSeconds | None = None
    down: PositiveSeconds | None = None
    stop: bool = False
    leave: bool | None = None
    join: bool | None = None

    @model_validator(mode="after")
    def _one_thing(self) -> Event:
        given = [name for name in ("slowdown", "down", "stop", "leave", "join") if getattr(self, name) not in (None, False)]
        if len(given) != 1:
            raise ValueError(
                "an event is one of `slowdown: <factor>`, `down: <duration>`, `stop: true`, `leave: true`, `join: true`; given "
                f"{', '.join(given) or 'none of them'}"
            )
        if given != ["slowdown"] and self.duration is not None:
            message = f"`duration` is allowed only with `slowdown`, not with `{given[0]}`"
            raise located("event", [(("duration",), self.duration, message)])
        if len(set(self.workers)) < len(self.workers):
            message = "a worker is listed twice; allowed is each worker once"
            raise located("event", [(("workers",), list(self.workers), message)])
        return self


class Script(Spec):
    """Events in a file: CSV with a header, or JSON Lines (``.jsonl``), one event a row, with the fields of an event. In CSV,
    ``workers`` is written ``0 2 5-7``, and an empty cell is a field that is left out.

    A relative path starts at the folder of the scenario. ``sha256`` is filled in, so a changed file is another scenario.
    """

    shorthand: ClassVar[str | None] = "file"
    file: str = Field(min_length=1)
    sha256: str | None = None
    _events: tuple[Event, ...] = PrivateAttr(default=())

    @property
    def events(self) -> tuple[Event, ...]:
        return self._events

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> Script:
        path = Path((info.context or {}).get("folder") or ".") / self.file
        try:
            content = path.read_bytes()
            text = content.decode("utf-8-sig")
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise self._wrong("file", self.file, f"{path} cannot be read as text in UTF-8: {why}") from None
        digest = hashlib.sha256(content).hexdigest()
        if self.sha256 not in (None, digest):
            raise self._wrong("sha256", self.sha256, f"{path} has changed: its SHA-256 is {digest}")
        self.__dict__ |= {"file": str(path.resolve()), "sha256": digest}
        events = []
        for line, row in _rows(path, text):
            try:
                events.append(Event.model_validate(row()))
            except ValidationError as error:
                first = error.errors()[0]
                field = ".".join(map(str, first["loc"])) or "the row"
                raise self._wrong("file", self.file, f"{path}, line {line}: {field}: {first['msg']}") from None
            except ValueError as error:
                raise self._wrong("file", self.file, f"{path}, line {line}: {error}") from None
        self._events = tuple(events)
        return self

    @staticmethod
    def _wrong(field: str, value: Any, message: str) -> ValueError:
        return located("script", [((field,), value, message)])


def _rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Pairs of a line number and a function that returns the fields of that row."""
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), 1):
            if line.strip():
                yield number, lambda line=line: json.loads(line)
        return
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        yield reader.line_num, lambda row=row: _cells(row)


def _cells(row: dict[str | None, Any]) -> dict[str, Any]:
    if None in row:
        raise ValueError("more cells than the header has names")
    fields: dict[str, Any] = {name: cell.strip() for name, cell in row.items() if cell and cell.strip()}
    for name in ("stop", "leave", "join"):
        if name in fields:
            fields[name] = {"true": True, "false": False}.get(fields[name].lower(), fields[name])
    for name in ("at", "duration", "down", "slowdown"):
        try:
            fields[name] = float(fields[name])
        except (KeyError, ValueError):
            continue
    if "workers" in fields:
        fields["workers"] = _workers(fields["workers"])
    return fields


def _workers(cell: str) -> list[int]:
    """The indices that ``0 2 5-7`` stands for."""
    found: list[int] = []
    for word in cell.split():
        first, _, last = word.partition("-")
        if not first.isdigit() or (last and not last.isdigit()) or word.endswith("-"):
            raise ValueError(f"workers: {cell!r} is not a list of indices such as `0 2 5-7`")
        found += range(int(first), int(last or first) + 1)
    return found
