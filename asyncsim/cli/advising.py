"""The command ``advise``: which of several fleets and methods to take."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from asyncsim.cli import sweeping
from asyncsim.cli.arguments import parse_fleets, parse_methods
from asyncsim.cli.console import Console, say
from asyncsim.cli.layout import Column, show_table
from asyncsim.cli.notes import tell_unreached
from asyncsim.scenario.files import load_candidates
from asyncsim.units import show_dollars, show_joules, show_seconds

if TYPE_CHECKING:
    from asyncsim.sweep.advise import Advice


def advise(arguments: argparse.Namespace) -> int:
    """Run the candidates, say which are worth it, and write table, figure and JSON. The exit code is 1 if some runs failed."""
    from asyncsim.sweep import run_folder
    from asyncsim.sweep.advise import advise as draw_conclusions
    from asyncsim.sweep.advise import judged
    from asyncsim.sweep.runner import failures

    fleets, methods = parse_fleets(arguments.fleet), parse_methods(arguments.method)
    study = judged(sweeping.study_of(arguments, partial(load_candidates, fleets=fleets, methods=methods)))
    if arguments.dry_run:
        return sweeping.dry_run(arguments, study)
    out = Path(arguments.out)
    result = sweeping.simulated(arguments, study)
    advice, folder = draw_conclusions(result), run_folder(out, study, 0).parent
    advice.write(folder)
    if arguments.json:
        print(json.dumps(advice.document(), allow_nan=False))
    else:
        _show(advice)
    if not arguments.no_figures:
        from asyncsim.plots.pareto import write_front

        drawn = write_front(advice.table, advice.objectives, advice.goal, folder / "advice.png", Console(stderr=True).say)
        say(arguments, f"figure: {drawn.name}" if drawn else "no figure: no candidate has a place in it")
    say(arguments, f"advice: {folder / 'advice.json'}")
    tell_unreached(sweeping.ended(result))
    sweeping.tell_failed(failures(study, result.errors), study)
    return 1 if result.errors else 0


def _show(advice: Advice) -> None:
    """Print one row for each candidate, with a star for those on the Pareto front, and then the advice in sentences."""
    caption = f"time, cost and energy to {advice.goal}; * on the Pareto front"
    known = [str(column) for column in advice.table]
    tested = next(key for key in known if key.startswith("test_"))
    shows: dict[str, Callable[[float], str]] = {"time": show_seconds, "cost": show_dollars, "energy": show_joules}
    columns = [name for name in ("workers", "reached", "time", "cost", "energy", "error", tested) if name in known]
    titles = ["error, validation" if name == "error" else name.replace("_", " ") for name in columns]
    rows = []
    for _, row in advice.table.iterrows():
        cells = []
        for name in columns:
            value = row[name]
            if name == "reached":
                cells.append(f"{value} of {row['runs']}")
            elif value != value:
                cells.append("never" if name in shows else "diverged")
            else:
                cells.append(shows[name](value) if name in shows else f"{value:,.4g}")
        rows.append((f"{'*' if row['pareto'] else ' '} {row['candidate']}", *cells))
    show_table([Column("candidate", "left"), *map(Column, titles)], rows, advice.name, caption)
    print("\n".join(advice.sentences))
