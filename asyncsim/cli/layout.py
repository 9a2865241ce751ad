"""Lay out tables as text, for all commands: whatever the width of the terminal, every cell is shown whole.

A table that is wider than the terminal is divided into several tables, one below the other, that begin with the same
columns. Where that would take too many, each row becomes a block with one line for each column. Where there is no terminal
(a pipe, a log), lines are as long as they have to be.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.text import Text

from asyncsim.cli.console import Console

GAP = "  "
TITLE = 3
"""The largest number of lines in a title."""
MOST_PARTS = 4
"""The largest number of tables below each other in which a reader can still follow a row."""
LEAST_PROSE = 24
"""The smallest width of wrapped sentences, in characters."""


Side = Literal["left", "right"]


class Column(NamedTuple):
    """A title, which is wrapped to the width of the cells; on which ``side`` cells stand; ``prose`` is wrapped between words."""

    title: str
    side: Side = "right"
    prose: bool = False


class Line(NamedTuple):
    """A line of a table, and rich's style for it."""

    text: str
    style: str = ""


def show_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[str]],
    title: str = "",
    caption: str = "",
    keys: int = 1,
    styles: Sequence[str] = (),
    console: Console | None = None,
) -> None:
    """Print a table. Its first ``keys`` columns name the rows, and ``styles`` has one entry for each row.

    A column in which all cells are ``-`` or empty is left out.
    """
    console = console or Console()
    kept = [place for place in range(len(columns)) if place < keys or any(row[place] not in ("-", "") for row in rows)]
    shown = [[row[place] for place in kept] for row in rows]
    lines = [Line(title, "bold")] if title else []
    lines += lay_out([columns[place] for place in kept], shown, console.room, keys, styles)
    lines += [Line(caption, "italic")] if caption else []
    for line in lines:
        console.say(Text(line.text, line.style))


def show_pairs(pairs: Sequence[tuple[str, str]], console: Console | None = None) -> None:
    """Print names and values, one pair on each line."""
    console = console or Console()
    wide = max((cell_len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        console.say(f"{_padded(name, wide, 'left')}{GAP}{value}")


def lay_out(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None = None, keys: int = 1, styles: Sequence[str] = ()
) -> list[Line]:
    """The lines of a table in ``room`` columns of a terminal (None: as many as it takes), without title and caption.

    No cell is ever cut: a line is longer than ``room`` only where a single cell is.
    """
    cells = [[" ".join(str(cell).split()) if column.prose else _one_line(cell) for column, cell in zip(columns, row, strict=True)]
             for row in rows]  # fmt: skip
    looks = list(styles) or [""] * len(rows)
    widths = _widths(columns, cells, room)
    parts = _parts(widths, room, keys)
    if len(parts) > MOST_PARTS or (room is not None and any(_total(widths, part) > room for part in parts)):
        return list(_blocks(columns, cells, looks))
    lines: list[Line] = []
    for number, part in enumerate(parts):
        lines += [Line("")] if number else []
        lines += _table([columns[place] for place in part], [[row[place] for place in part] for row in cells],
                        [widths[place] for place in part], looks)  # fmt: skip
    return lines


def _widths(columns: Sequence[Column], cells: list[list[str]], room: int | None) -> list[int]:
    """The width of each column: that of its longest cell, and enough for a title of few lines. Prose takes the room that is
    left."""
    widths = [
        max([_title_width(column.title)] + [cell_len(row[place]) for row in cells]) for place, column in enumerate(columns)
    ]
    if room is not None:
        for place, column in enumerate(columns):
            others = _total(widths, range(len(widths))) - widths[place]
            if column.prose and widths[place] > room - others >= LEAST_PROSE:
                longest = max((cell_len(word) for row in cells for word in row[place].split()), default=1)
                widths[place] = max(room - others, longest)
    return widths


def _parts(widths: Sequence[int], room: int | None, keys: int) -> list[list[int]]:
    """The columns of each table under each other: the first ``keys``, and as many of the others as have room."""
    first = list(range(min(keys, len(widths))))
    parts = [list(first)]
    for place in range(len(first), len(widths)):
        if room is not None and len(parts[-1]) > len(first) and _total(widths, [*parts[-1], place]) > room:
            parts.append(list(first))
        parts[-1].append(place)
    return parts


def _total(widths: Sequence[int], part: Sequence[int]) -> int:
    return sum(widths[place] for place in part) + len(GAP) * max(0, len(part) - 1)


def _table(columns: list[Column], cells: list[list[str]], widths: list[int], styles: Sequence[str]) -> Iterator[Line]:
    heads = [_wrapped(column.title, width) for column, width in zip(columns, widths, strict=True)]
    height = max(map(len, heads))
    if any(column.title for column in columns):
        for level in range(height):
            words = [head[level - height + len(head)] if level >= height - len(head) else "" for head in heads]
            yield Line(_joined(words, widths, columns), "bold")
        yield Line("─" * _total(widths, range(len(widths))), "dim")
    for row, style in zip(cells, styles, strict=True):
        texts = [textwrap.wrap(cell, width, break_long_words=False, break_on_hyphens=False) if column.prose else [cell]
                 for cell, width, column in zip(row, widths, columns, strict=True)]  # fmt: skip
        for level in range(max(map(len, texts))):
            yield Line(_joined([text[level] if level < len(text) else "" for text in texts], widths, columns), style)


def _blocks(columns: Sequence[Column], cells: list[list[str]], styles: Sequence[str]) -> Iterator[Line]:
    """One block for each row: its name, then one line for each column. A terminal breaks the lines that are too long for it."""
    wide = max((cell_len(column.title) for column in columns[1:]), default=0)
    for number, (row, style) in enumerate(zip(cells, styles, strict=True)):
        if number:
            yield Line("")
        yield Line(f"{columns[0].title} {row[0]}".strip(), f"{style} bold".strip())
        for column, cell in zip(columns[1:], row[1:], strict=True):
            if cell not in ("-", ""):
                yield Line(f"{GAP}{_padded(column.title, wide, 'left')}{GAP}{cell}" if column.title else f"{GAP}{cell}", style)


def _one_line(cell: str) -> str:
    return re.sub(r"[\r\n\t\v\f]+", " ", str(cell))


def _title_width(title: str) -> int:
    """The least width at which a title has no more than ``TITLE`` lines, and its longest word is whole."""
    words = [cell_len(word.strip()) for word in _words(title)]
    width = max(words, default=1)
    while len(_wrapped(title, width)) > TITLE:
        width += 1
    return width


def _words(title: str) -> list[str]:
    """Where a title may be broken: before spaces, and after the dots of a field's path."""
    return re.findall(r"\s*(?:[^\s.]+\.?|\.)", title)


def _wrapped(title: str, width: int) -> list[str]:
    lines = [""]
    for word in _words(title):
        if lines[-1] and cell_len(lines[-1] + word) > width:
            lines.append("")
        lines[-1] += word if lines[-1] else word.lstrip()
    return lines


def _joined(texts: Sequence[str], widths: Sequence[int], columns: Sequence[Column]) -> str:
    padded = [_padded(text, width, column.side) for text, width, column in zip(texts, widths, columns, strict=True)]
    return GAP.join(padded).rstrip()


def _padded(text: str, width: int, side: str) -> str:
    room = " " * (width - cell_len(text))
    return room + text if side == "right" else text + room
