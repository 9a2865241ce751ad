"""Pieces of a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

FIGURES = Path(__file__).parents[2] / "docs" / "figures" / "validation"

Section = tuple[list[str], bool]
"""The lines of a section, and whether all that it checks holds."""


def table(head: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def picture(name: str, words: str) -> Iterator[str]:
    yield from ["", f"![{words}](figures/validation/{name}.png)", ""]
