"""rich's console, which treats a reader that goes away (``| head``) as an ordinary broken pipe, and never cuts text."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import rich.console


class Console(rich.console.Console):
    """The console to which commands print. ``say`` is the method to print with: it neither wraps nor cuts lines, and does not
    read text as markup."""

    def __init__(self, **settings: Any) -> None:
        # a terminal of unknown size says 0, and rich would print nothing at all
        unknown = {name for name in ("COLUMNS", "LINES") if not os.environ.get(name, "").strip("0")}
        super().__init__(_environ={name: value for name, value in os.environ.items() if name not in unknown}, **settings)

    @property
    def room(self) -> int | None:
        """Columns of the terminal; None where there is none (a pipe, a file, a log): lines may then be of any length."""
        return self.width if self.file.isatty() else None

    def say(self, text: Any = "", style: str | None = None) -> None:
        """Print a text as it is; a terminal breaks lines that are longer than itself."""
        self.print(text, style=style, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def say(arguments: argparse.Namespace, text: str) -> None:
    """Print what a command says beside its result: on stdout, or on stderr where ``--json`` leaves stdout to the JSON."""
    print(text, file=sys.stderr if arguments.json else sys.stdout)
