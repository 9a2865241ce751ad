"""The commands ``run`` and ``plan``, and ``bench-engine``, which times the first."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from asyncsim.cli import sweeping
from asyncsim.cli.arguments import changes_of, cores
from asyncsim.cli.console import Console, say
from asyncsim.cli.display import Display
from asyncsim.cli.failures import common_error, located_error
from asyncsim.cli.notes import tell_unreached, told_by_theory, unknown_to_plans
from asyncsim.cli.run_tables import engine_table, stages_table, summary_table
from asyncsim.errors import UserError, nearest
from asyncsim.records import Result
from asyncsim.run.moments import Moment
from asyncsim.scenario import Study, load_study
from asyncsim.sweep.runner import Report


def run(arguments: argparse.Namespace) -> int:
    """Simulate the run of the file, print its numbers and write figures; several runs are a sweep."""
    from asyncsim.sweep import run_folder, simulate_study
    from asyncsim.sweep.runner import KILLED

    study = _study(arguments)
    if arguments.extend:
        _extend(study, Path(arguments.out), arguments)
    if study.several:
        return sweeping.execute(arguments, study)
    out = Path(arguments.out)
    with Display(study, quiet=arguments.json) as display:
        executor = sweeping.executor_of(arguments)
        results = simulate_study(study, out, force=arguments.force, report=display, executor=executor)
    error = common_error([display])
    if error not in (None, KILLED):
        raise located_error(error, arguments.file, out)
    display.tell_errors()
    folder, result = run_folder(out, study, 0), results[0]
    if result is None:
        return 1
    if arguments.json:
        _print_json(result.summary)
    else:
        summary_table(result.summary)
        stages_table(result)
    tell_unreached([(study.labels[0], study.scenarios[0], result.summary)])
    if not arguments.no_figures:
        from asyncsim.plots import write_figures

        figures = write_figures([result], study.labels, folder, Console(stderr=True).say)
        if figures:
            say(arguments, f"figures: {', '.join(path.name for path in figures)}")
    say(arguments, f"run: {folder}")
    return 0


def plan(arguments: argparse.Namespace) -> int:
    """Simulate the timelines alone and print what they tell."""
    from asyncsim.run import plan as simulate_timeline

    study = _study(arguments)
    summaries, standings = [], []
    with Display(study, quiet=arguments.json) as display:
        for index, scenario in enumerate(study.scenarios):
            result = simulate_timeline(scenario, partial(_seen, display, index))
            display(Report(index, result=result))
            summaries.append({"variant": study.labels[index], **result.summary})
            standings.append("" if arguments.json else told_by_theory(scenario, result))
    if arguments.json:
        _print_json(result.summary if len(study) == 1 else {"study": study.name, "runs": summaries})
    else:
        _show_plans(study, summaries, standings, result)
    tell_unreached(zip(study.labels, study.scenarios, summaries, strict=True))
    return 0


def _seen(display: Display, index: int, moment: Moment) -> None:
    display(Report(index, moment))


def _show_plans(study: Study, summaries: list[dict[str, Any]], standings: list[str], last: Result) -> None:
    for place, summary in enumerate(summaries):
        if place:
            print()
        summary_table(summary)
        if standings[place]:
            Console().say(standings[place])
    if len(study) == 1:
        stages_table(last)
    Console().say(unknown_to_plans(summaries))


def bench_engine(arguments: argparse.Namespace) -> int:
    """Time short runs of every variant of the file (or of one) on every engine, and print the line for the scenario file that
    chooses the fastest."""
    from asyncsim.sweep.bench import ROUNDS, measure_engines

    study = _study(arguments)
    chosen = _chosen(study, arguments.variant)
    found = {label: measure_engines(study.scenarios[index], arguments.updates, cores()) for label, index in chosen.items()}
    best = {label: min(timings, key=lambda timing: timing.seconds) for label, timings in found.items()}
    if arguments.json:
        told = [
            {"variant": label, "best": best[label].engine, "engines": [timing._asdict() for timing in timings]}
            for label, timings in found.items()
        ]
        _print_json(told[0] if len(told) == 1 else {"study": study.name, "variants": told})
        return 0
    for label, timings in found.items():
        engine_table(timings, best[label], label if len(set(study.variants)) > 1 else "")
    print(f"medians of {ROUNDS} interleaved runs of {arguments.updates} updates; the fastest here, for the scenario file:")
    for label, timing in best.items():
        engine = "engine: {" + ", ".join(f"{key}: {value}" for key, value in timing.engine.items()) + "}"
        print(engine if len(best) == 1 else f"{label}: {engine}")
    for line in _untimed(study, chosen):
        print(line)
    return 0


def _chosen(study: Study, variant: str | None) -> dict[str, int]:
    """The first run of each variant, or of one. Raises ``UserError`` for a variant that there is not."""
    first = {name: index for index, name in reversed(list(enumerate(study.variants))) if variant in (None, name)}
    if variant is not None and not first:
        known = list(dict.fromkeys(study.variants))
        raise UserError(f"--variant {variant}: there is no such variant{nearest(variant, known)}; there are: {', '.join(known)}")
    return dict(reversed(first.items()))


def _untimed(study: Study, chosen: dict[str, int]) -> Iterator[str]:
    """What of the file was not timed."""
    others = [name for name in dict.fromkeys(study.variants) if name not in chosen]
    if others:
        yield f"not timed: {', '.join(others)}"
    points = len({repr(point) for point in study.points})
    if points > 1:
        yield f"timed at the first of {points} points of the sweep only; --set chooses another"


def _extend(study: Study, out: Path, arguments: argparse.Namespace) -> None:
    """Continue earlier, shorter runs of these scenarios (``--extend``): each one that has a checkpoint is made as long as the
    file now says.

    Scenarios that have a run in ``out`` already are left alone; those without a shorter run to go on from are simulated by
    the caller afterwards.
    """
    from asyncsim.resuming import extend
    from asyncsim.sweep import run_folder

    for index, scenario in enumerate(study.scenarios):
        folder = run_folder(out, study, index)
        if not folder.exists():
            told = "extended" if extend(scenario, folder.parent) else "no shorter run with a checkpoint to go on from"
            say(arguments, f"{study.labels[index]}: {told}")


def _study(arguments: argparse.Namespace) -> Study:
    return load_study(arguments.file, changes_of(arguments))


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, allow_nan=False))
