"""The command ``resume``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from asyncsim.cli.arguments import parse_changes
from asyncsim.cli.console import say
from asyncsim.cli.display import Display
from asyncsim.cli.notes import tell_unreached
from asyncsim.cli.run_tables import summary_table
from asyncsim.scenario import Study


def resume(arguments: argparse.Namespace) -> int:
    """Go on with an interrupted run, or make a run longer; then print its summary."""
    from asyncsim.resuming import lengthened, recorded_scenario
    from asyncsim.resuming import resume as go_on
    from asyncsim.sweep.runner import Report

    path, changes = Path(arguments.run), parse_changes(arguments.set)
    scenario = recorded_scenario(path)
    if changes:
        scenario = lengthened(scenario, changes)
    with Display(Study(scenario.name, (scenario,), (scenario.name,)), quiet=arguments.json) as display:
        result = go_on(path, changes, lambda moment: display(Report(0, moment)))
        display(Report(0, result=result))
    if arguments.json:
        print(json.dumps(result.summary, allow_nan=False))
    else:
        summary_table(result.summary)
    tell_unreached([(scenario.name, scenario, result.summary)])
    say(arguments, f"run: {result.path}")
    return 0
