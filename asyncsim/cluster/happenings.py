"""Events that happen once, to some workers, at a given time, listed in the scenario or in a file."""

from __future__ import annotations

import hashlib
import re
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr, ValidationError, ValidationInfo, model_validator

from asyncsim.cluster.columns import Rows
from asyncsim.cluster.fields import MAX_WORKERS, Positive, Several, WorkerIndex
from asyncsim.cluster.files import Unusable, read_file, resolved
from asyncsim.cluster.instants import instant, is_date
from asyncsim.cluster.parsing import read_rows
from asyncsim.registry import Spec, located
from asyncsim.units import NANOSECONDS, PositiveSeconds, Seconds


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
    """Events in a file: CSV, Parquet, or JSON Lines (``.jsonl``), one event a row, with the fields of an event. In CSV,
    ``workers`` is written ``0 2 5-7``, and an empty cell is a field that is left out.

    ``at`` is a time of the run, or a date; then ``start`` is the date that is time 0. A relative path starts at the folder of the
    scenario. ``sha256`` is filled in, so a changed file is another scenario.
    """

    shorthand: ClassVar[str | None] = "file"
    file: str = Field(min_length=1)
    start: str | None = None
    sha256: str | None = None
    _events: tuple[Event, ...] = PrivateAttr(default=())

    @property
    def events(self) -> tuple[Event, ...]:
        return self._events

    @model_validator(mode="after")
    def _read(self, info: ValidationInfo) -> Script:
        try:
            path = resolved(self.file, (info.context or {}).get("folder"))
            content = read_file(path)
            digest = hashlib.sha256(content).hexdigest()
            if self.sha256 not in (None, digest):
                raise Unusable("sha256", f"{path} has changed: its SHA-256 is {digest}")
            rows = read_rows(path, content)
            for name in ("at", "workers"):
                rows.column(name, "file")
            self._events = tuple(self._event(rows, index) for index in range(rows.size))
        except Unusable as error:
            raise located("script", [((error.field,), getattr(self, error.field), str(error))]) from None
        self.__dict__ |= {"file": str(path.resolve()), "sha256": digest}
        return self

    def _event(self, rows: Rows, index: int) -> Event:
        try:
            fields = _fields({name: cells[index] for name, cells in rows.columns.items()})
            if "at" in fields:
                fields["at"] = self._since_start(fields["at"])
            return Event.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the row"
            raise Unusable("file", f"{rows.where(index)}: {field}: {first['msg'].removeprefix('Value error, ')}") from None
        except ValueError as error:
            raise Unusable("file", f"{rows.where(index)}: {error}") from None

    def _since_start(self, at: Any) -> Any:
        """Seconds of virtual time for a date; anything else as it is."""
        if not is_date(at):
            return at
        if self.start is None:
            message = "`at` holds dates; give `start`, the date that is time 0, such as \"2026-01-31T12:00:00\""
            raise Unusable("start", f"{self.file}: {message}")
        zero, moment = instant(self.start, True, None), instant(at, True, None)
        if zero is None:
            raise Unusable("start", f"{self.start!r} is not a date such as 2026-01-31T12:00:00")
        if moment is None:
            raise ValueError(f"at: {at!r} is not a date such as 2026-01-31T12:00:00")
        if moment.zoned != zero.zoned:
            raise ValueError(f"at: {at!r}: it and `start` must both have an offset from UTC (such as Z), or neither")
        if moment.ns < zero.ns:
            raise ValueError(f"at: {at!r} is before `start`, {self.start}")
        return (moment.ns - zero.ns) / NANOSECONDS


def _fields(row: dict[str, Any]) -> dict[str, Any]:
    """What a row of any format says, without what it leaves out."""
    fields: dict[str, Any] = {}
    for name, cell in row.items():
        value = cell.tolist() if hasattr(cell, "tolist") else cell.strip() if isinstance(cell, str) else cell
        if value not in (None, "") and value == value:
            fields[name] = value
    for name in ("stop", "leave", "join"):
        if isinstance(fields.get(name), str):
            fields[name] = {"true": True, "false": False}.get(fields[name].lower(), fields[name])
    factor = fields.get("slowdown")  # the others may have units, and are read with them
    if isinstance(factor, str) and re.fullmatch(r"[-+]?[\d.]+([eE][-+]?\d+)?", factor):
        fields["slowdown"] = float(factor)
    if isinstance(fields.get("workers"), str):
        fields["workers"] = _workers(fields["workers"])
    elif isinstance(fields.get("workers"), int | float):
        fields["workers"] = [fields["workers"]]
    return fields


def _workers(cell: str) -> list[int]:
    """The indices that ``0 2 5-7`` stands for."""
    found: list[int] = []
    for word in cell.split():
        first, _, last = word.partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or word.endswith("-"):
            raise ValueError(f"workers: {cell!r} is not a list of indices such as `0 2 5-7`")
        begin, end = int(first), int(last or first)
        if end < begin or end >= MAX_WORKERS:
            raise ValueError(f"workers: {word!r} is not a range of indices from 0 to {MAX_WORKERS - 1:,}")
        found += range(begin, end + 1)
    return found
