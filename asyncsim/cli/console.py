"""rich's console, which treats a reader that goes away (``| head``) as an ordinary broken pipe."""

from __future__ import annotations

import sys
from typing import Any

import rich.console


class Console(rich.console.Console):
    """A console as wide as the terminal; without a terminal, as wide as the widest of our tables."""

    def __init__(self, **options: Any) -> None:
        wide = None if (sys.stderr if options.get("stderr") else sys.stdout).isatty() else 140
        super().__init__(**{"width": wide, **options})

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError
