"""The commands that only look at files and registries: ``validate``, ``show``, ``list``, ``schema``, ``init``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from asyncsim import registries
from asyncsim.cli.declared import needs
from asyncsim.cli.described import describe, summary
from asyncsim.cli.layout import Column, show_table
from asyncsim.cli.starter import STARTER
from asyncsim.errors import UserError, nearest
from asyncsim.records.directory import write_atomically
from asyncsim.scenario import dump_scenario, load_study
from asyncsim.scenario.beside import file_schema


def validate(arguments: argparse.Namespace) -> int:
    """Check files; the problems of all of them are reported before the command fails."""
    problems = []
    for file in arguments.files:
        try:
            study = load_study(file)
        except UserError as error:
            problems.append(str(error))
            continue
        runs = f"{len(study)} runs" if len(study) > 1 else "1 run"
        tasks = ", ".join(dict.fromkeys(scenario.task.kind for scenario in study.scenarios))
        sizes = sorted({scenario.cluster.num_workers for scenario in study.scenarios})
        fleet = f"{sizes[0]:,} to {sizes[-1]:,} workers" if len(sizes) > 1 else f"{sizes[0]:,} worker{'s' * (sizes[0] > 1)}"
        print(f"{file}: ok, {runs}: {tasks}, {fleet}, {', '.join(dict.fromkeys(study.variants))}")
    if problems:
        raise UserError("\n".join(problems))
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Print a run folder's summary, or a scenario with all its defaults filled in."""
    path = Path(arguments.path)
    if path.is_dir():
        from asyncsim.cli.run_tables import stages_table, summary_table
        from asyncsim.records import load_result

        result = load_result(path)
        if arguments.json:
            print(json.dumps(result.summary, allow_nan=False))
        else:
            print(f"{result.name}: {result.manifest['status']}, hash {result.manifest['hash']}, {result.manifest['device']}, "
                  f"engine {result.manifest['engine']}, torch {result.manifest['versions'].get('torch', 'unknown')}")  # fmt: skip
            summary_table(result.summary)
            stages_table(result)
        return 0
    study = load_study(path)
    if arguments.json:
        documents = [scenario.document() for scenario in study.scenarios]
        print(json.dumps(documents[0] if len(documents) == 1 else documents))
    else:
        print("---\n".join(dump_scenario(scenario) for scenario in study.scenarios), end="")
    return 0


def listing(arguments: argparse.Namespace) -> int:
    """Print the names of what is registered with the first line of each description; or what the parts of methods have
    declared."""
    if arguments.needs:
        if arguments.what is not None:
            raise UserError("list --needs: takes no name; it tells of all methods and parts")
        needs()
        return 0
    if arguments.what not in (None, *registries.ALL):
        known = ", ".join(registries.ALL)
        hint = nearest(arguments.what, registries.ALL)
        raise UserError(f"list {arguments.what}: there is no such list{hint}; there are: {known}")
    if arguments.name is not None:
        registry = registries.ALL[arguments.what]
        if arguments.name not in registry:
            names = registry.names()
            hint = nearest(arguments.name, names)
            raise UserError(f"list {arguments.what}: there is no {arguments.name!r}{hint}; there are: {', '.join(names)}")
        describe(registry[arguments.name])
        return 0
    for what, registry in registries.ALL.items():
        if arguments.what not in (None, what):
            continue
        told = [(name, summary(cls)) for name, cls in registry]
        show_table([Column("", "left"), Column("", "left", prose=True)], told, what)
        print()
    return 0


def schema(arguments: argparse.Namespace) -> int:
    """The JSON Schema, with what a file may say beside a single scenario."""
    print(json.dumps(file_schema(), indent=2))
    return 0


def init(arguments: argparse.Namespace) -> int:
    """Write a scenario to start from, unless the file exists."""
    path = Path(arguments.path)
    if path.exists():
        raise UserError(f"{path}: is there already; name another file")
    if path.suffix not in (".yaml", ".yml"):
        raise UserError(f"{path}: the starter is YAML; name a file that ends in .yaml")
    if not path.parent.is_dir():
        raise UserError(f"{path}: there is no folder {path.parent}")
    write_atomically(path, STARTER.encode())
    print(f"wrote {path}; try: asyncsim run {path}")
    return 0
