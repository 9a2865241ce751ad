"""The command ``sweep``: many runs, what they will cost, and the tables that come out."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asyncsim.cli.arguments import changes_of, cores, parse_axes
from asyncsim.cli.console import Console, say
from asyncsim.cli.display import Display
from asyncsim.cli.failures import common_error, located_error
from asyncsim.cli.notes import sentence, tell_unreached
from asyncsim.cli.study_tables import comparison_table, cost_table
from asyncsim.errors import UserError
from asyncsim.records.summary import unknown_to_a_plan
from asyncsim.scenario import Scenario, Study, load_study
from asyncsim.scenario.document import parse_value
from asyncsim.scenario.tuning import Tune
from asyncsim.units import show_seconds

if TYPE_CHECKING:
    from asyncsim.sweep import SweepResult
    from asyncsim.sweep.cost import Cost, Forecast


def sweep(arguments: argparse.Namespace) -> int:
    """Expand a file into runs, validate them and estimate their cost; then run them, print the table and write it."""
    study = study_of(arguments)
    if arguments.dry_run:
        return dry_run(arguments, study)
    return execute(arguments, study)


def execute(arguments: argparse.Namespace, study: Study) -> int:
    """Run a study of several runs. The exit code is 1 if some of them failed."""
    from asyncsim.sweep import run_folder
    from asyncsim.sweep.cost import estimate
    from asyncsim.sweep.runner import failures

    out = Path(arguments.out)
    if any(study.points) and not arguments.json:
        cost = estimate(study, out, arguments.force, measured=False)
        print(describe(study, cost), file=sys.stderr)
    result = simulated(arguments, study)
    finished = [(label, each) for label, each in zip(result.study.labels, result.results, strict=True) if each is not None]
    folder = run_folder(out, study, 0).parent
    _tell(arguments, result, finished, folder)
    failed = [
        *failures(result.study, result.errors),
        *(failures(result.common.study, result.common.errors) if result.common else []),
    ]
    tell_unreached(ended(result))
    tell_failed(failed, study)
    return 1 if failed or result.undecided else 0


def tell_failed(failed: list[str], study: Study) -> None:
    """Name the runs of a study that failed, if some did."""
    if failed:
        print("\n".join([f"{len(failed)} of {len(study)} runs failed:", *failed]), file=sys.stderr)


def simulated(arguments: argparse.Namespace, study: Study) -> SweepResult:
    """Run a study, and show how it goes on. Raises ``UserError`` if all runs fail alike, naming the line to mend."""
    from asyncsim.sweep import simulate_sweep
    from asyncsim.sweep.runner import KILLED

    out, displays = Path(arguments.out), list[Display]()
    with ExitStack() as stack:

        def phase(part: Study) -> None:
            stack.close()
            displays.append(stack.enter_context(Display(part, quiet=arguments.json)))

        executor = executor_of(arguments)
        result = simulate_sweep(study, out, executor, arguments.force, lambda report: displays[-1](report), phase)
    error = common_error(displays)
    if error not in (None, KILLED):
        raise located_error(error, arguments.file, out)
    for display in displays:
        display.tell_errors()
    return result


def ended(result: SweepResult) -> Iterator[tuple[str, Scenario, dict[str, Any]]]:
    """Name, scenario and summary of each run that came to an end."""
    for label, scenario, each in zip(result.study.labels, result.study.scenarios, result.results, strict=True):
        if each is not None:
            yield f"{label}, seed {scenario.seed}", scenario, each.summary


def study_of(arguments: argparse.Namespace, load: Callable[..., Study] = load_study) -> Study:
    """The study in a file, with the changes that the command line makes to it."""
    sweep: dict[str, Any] = {"grid": parse_axes("--grid", arguments.grid), "zip": parse_axes("--zip", arguments.zip)}
    if arguments.seeds is not None:
        if arguments.seed is not None:
            raise UserError("--seed is one run a point, --seeds are several; give one of them")
        sweep["seeds"] = parse_value(f"[{arguments.seeds}]" if "," in arguments.seeds else arguments.seeds)
    return load(arguments.file, changes_of(arguments), sweep)


def executor_of(arguments: argparse.Namespace) -> Any:
    from asyncsim.sweep import Executor

    kind = arguments.executor
    if arguments.ray_address is not None and kind == "auto":
        kind = "ray"
    processes = arguments.processes or (1 if kind == "fleet" else cores())
    return Executor(kind, processes, arguments.ray_address, arguments.cpus, arguments.gpus)


def describe(study: Study, cost: Cost) -> str:
    """One line such as ``3 variants x 7 points x 5 seeds = 105 runs, 40 finished already; about 1,300,000 gradients``."""
    variants, points = len(set(study.variants)), len({repr(point) for point in study.points})
    seeds = len(study) / len(set(study.labels))
    parts = [
        f"{count:,.0f} {word}{'' if count == 1 else 's'}"
        for count, word in ((variants, "variant"), (points, "point"), (seeds, "seed"))
    ]
    words = f"{study.name}: {' x '.join(parts)} = {len(study):,} runs"
    if cost.finished:
        words += f", {cost.finished:,} finished already"
    if cost.finished < cost.runs:
        words += f"; {'at most ' if cost.stops_early else ''}about {_round(cost.gradients):,} gradients"
    return words


def dry_run(arguments: argparse.Namespace, study: Study) -> int:
    """Print what a study would run, and how long that would take."""
    from asyncsim.sweep.cost import forecast, gradients_of

    told = forecast(study, Path(arguments.out), arguments.force)
    cost, side_by_side = told.runs, abreast(arguments, told)
    seconds = told.seconds / side_by_side
    if arguments.json:
        print(
            json.dumps(
                {"study": study.name, **cost._asdict(), "wall_seconds": seconds, "points": [dict(p) for p in study.points],
                 "unknown": _unknown(study)}, allow_nan=False, default=_plain,
            )
        )
        return 0
    print(describe(study, cost))
    if study.tune is not None:
        print(tuning(study.tune, told))
    first: dict[str, int] = {}
    for index, label in enumerate(study.labels):
        first.setdefault(label, index)
    shown = dict(list(first.items())[:64])
    cost_table(
        [(label, study.scenarios[index], _round(round(gradients_of(study.scenarios[index])))) for label, index in shown.items()]
    )
    if len(first) > len(shown):
        print(f"... and {len(first) - len(shown):,} more")
    where = "in this process" if side_by_side == 1 else f"{side_by_side} at a time"
    print(f"about {show_seconds(seconds)} of wall time {where} (timed on short runs here)")
    print(f"what only the runs can tell: {sentence(_unknown(study))}")
    return 0


def abreast(arguments: argparse.Namespace, told: Forecast) -> int:
    """How many runs go on at a time."""
    executor = executor_of(arguments)
    left = told.runs.runs - told.runs.finished + told.trials - told.tried
    return 1 if executor.kind == "fleet" else max(1, min(executor.processes, left))


def tuning(tune: Tune, told: Forecast) -> str:
    """What tuning does before the runs."""
    fields = " or ".join(dict.fromkeys([tune.field, *(tune.of(name).field for name in tune.others)]))
    tried = f" ({told.tried:,} of them finished already)" if told.tried else ""
    then = "at the chosen and at the common value" if tune.common else "at the chosen value"
    return f"tune: {told.trials:,} trials of {fields}{tried} first, then the runs {then}"


def _unknown(study: Study) -> list[str]:
    """The numbers that no estimate has."""
    named = [
        name
        for each in study.scenarios
        for name in unknown_to_a_plan(each.metrics, each.run.target is not None, each.cluster.priced)
    ]
    return list(dict.fromkeys(named))


def _tell(arguments: argparse.Namespace, result: SweepResult, finished: list[Any], folder: Path) -> None:
    study = result.study
    if arguments.json:
        runs = [{"variant": label, **each.summary} for label, each in finished]
        rows = [{key: _finite(value) for key, value in row.items()} for row in result.table.to_dict("records")]
        said = {"study": study.name, "runs": runs, "table": rows}
        if study.tune is not None:
            said["undecided"] = list(dict.fromkeys(study.labels[index] for index in result.undecided))
        print(json.dumps(said, allow_nan=False, default=_plain))
    elif finished or result.undecided:
        comparison_table(result.table, study)
    if result.choices is not None:
        _tell_choices(arguments, result)
    if finished and not arguments.no_figures:
        from asyncsim.plots import write_figures

        tell = Console(stderr=True).say
        figures = write_figures([each for _, each in finished], [label for label, _ in finished], folder, tell, _swept(study))
        if figures:
            say(arguments, f"figures: {', '.join(path.name for path in figures)}")
    if finished or result.undecided:
        say(arguments, "tables: table.csv, runs.csv" + (", choices.csv" if result.choices is not None else ""))
    say(arguments, f"runs: {folder}")


def _swept(study: Study) -> str | None:
    """The field that a study sweeps, if it is one, of numbers, and nothing is tuned beside it."""
    if len(study.fields) != 1 or study.tune is not None:
        return None
    values = {point.get(study.fields[0]) for point in study.points}
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    return {"cluster.workers": "workers"}.get(study.fields[0], study.fields[0]) if numbers and len(values) > 1 else None


def _tell_choices(arguments: argparse.Namespace, result: SweepResult) -> None:
    """What to think of the choices: those at an edge may lie beyond it, and those that could not be made are an error."""
    study = result.study
    edges = list(dict.fromkeys(result.choices["variant"][result.choices["at_edge"]]))
    if edges:
        say(arguments, f"the chosen {_field(study)} lies at the edge of what was tried for: {', '.join(edges)}; widen it")
    without = list(dict.fromkeys(study.labels[index] for index in result.undecided))
    if without:
        print(
            f"nothing could be chosen for: {', '.join(without)}; every trial of {_field(study)} diverged or failed "
            "(choices.csv), so there is no run at a chosen value; try other values",
            file=sys.stderr,
        )


def _field(study: Study) -> str:
    """What was tuned, in a word."""
    assert study.tune is not None
    return "value" if study.tune.others else study.tune.field


def _round(value: float) -> int:
    """The number rounded to three digits, as an estimate should not look more exact than it is."""
    digits = max(0, len(str(int(value))) - 3)
    return int(round(value, -digits))


def _finite(value: Any) -> Any:
    """What is not a number, or no finite one, is None: JSON has neither."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)
