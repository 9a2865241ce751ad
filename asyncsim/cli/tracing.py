"""The command ``trace``."""

from __future__ import annotations

import argparse
from pathlib import Path

from asyncsim.errors import UserError
from asyncsim.records import load_result
from asyncsim.units import show_seconds


def trace(arguments: argparse.Namespace) -> int:
    """Write a run's trace, and say where to open it."""
    from asyncsim.trace import write_trace

    result = load_result(arguments.run)
    out = Path(arguments.run) / "trace.json" if arguments.out is None else Path(arguments.out)
    if out.is_dir():
        raise UserError(f"{out}: is a folder; name a file, such as {out / 'trace.json'}")
    if not out.parent.is_dir():
        raise UserError(f"{out}: there is no folder {out.parent}")
    count = write_trace(result, out, arguments.start or 0.0, arguments.end)
    size = out.stat().st_size
    print(f"wrote {out}: {count:,} trace events, {size / 1e6:.1f} MB; open it at https://ui.perfetto.dev")
    if size > 1e9:
        whole = show_seconds(result.summary.get("time") or 0.0)
        print(f"that is more than a browser likes; --start and --end cut a piece out of the {whole}")
    return 0
