"""What several commands read from the command line and the machine: fields and their values are read as YAML."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any

from asyncsim.errors import UserError
from asyncsim.scenario.document import parse_value


def changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The changes of the scenario that ``--set``, ``--seed`` and ``--device`` ask for."""
    changes = parse_changes(arguments.set)
    if arguments.seed is not None:
        changes["seed"] = arguments.seed
    if arguments.device is not None:
        changes["device"] = arguments.device
    return changes


def parse_changes(assignments: Sequence[str]) -> dict[str, Any]:
    """``--set``: ``["a.b=c", ...]`` as a mapping."""
    changes: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path.strip() or any(not part for part in path.strip().split(".")):
            raise UserError(f"--set {assignment}: must be field=value, such as cluster.workers=32")
        changes[path.strip()] = parse_value(value)
    return changes


def parse_axes(option: str, assignments: Sequence[str]) -> dict[str, list[Any]]:
    """``--grid`` and ``--zip``: ``["cluster.workers=1,2,4"]`` as ``{"cluster.workers": [1, 2, 4]}``."""
    axes: dict[str, list[Any]] = {}
    for assignment in assignments:
        field, equals, text = assignment.partition("=")
        field = field.strip()
        values = parse_value(f"[{text}]") if text.strip() else None
        if not equals or any(not part for part in field.split(".")) or not isinstance(values, list):
            raise UserError(f"{option} {assignment}: must be field=value,value,..., such as {option} cluster.workers=1,2,4")
        if field in axes:
            raise UserError(f"{option} {assignment}: `{field}` is given twice; give all its values in one {option}")
        axes[field] = values
    return axes


def parse_fleets(texts: Sequence[str]) -> dict[str, Any]:
    """``--fleet 16`` (workers) and ``--fleet "spot={workers: 16, instance: aws_p3_2xlarge}"`` as fleets by name."""
    fleets: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        fleet = parse_value(value if equals else text)
        if not equals and isinstance(fleet, int) and not isinstance(fleet, bool):
            name, fleet = f"{fleet} workers", {"workers": fleet}
        if not isinstance(fleet, Mapping) or not name.strip():
            raise UserError(f'--fleet {text}: must be a count of workers, or "name={{workers: 16, instance: aws_p3_2xlarge}}"')
        fleets[name.strip()] = dict(fleet)
    return fleets


def parse_methods(texts: Sequence[str]) -> dict[str, Any]:
    """``--method gap_aware`` and ``--method "tight={kind: ssp, bound: 1}"`` as methods by name."""
    methods: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        methods[name.strip()] = parse_value(value) if equals else name.strip()
    return methods


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
