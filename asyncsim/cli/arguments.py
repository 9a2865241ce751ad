"""What several commands take from the command line and from the machine."""

from __future__ import annotations

import argparse
import os
from typing import Any

from asyncsim.scenario import parse_changes


def changes_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The changes of the scenario that ``--set``, ``--seed`` and ``--device`` ask for."""
    changes = parse_changes(arguments.set)
    if arguments.seed is not None:
        changes["seed"] = arguments.seed
    if arguments.device is not None:
        changes["device"] = arguments.device
    return changes


def cores() -> int:
    """The number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
