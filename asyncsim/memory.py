"""What a run surely needs of memory, known before anything is allocated."""

from __future__ import annotations

import math
import os

from asyncsim.errors import UserError
from asyncsim.needs import Need
from asyncsim.scenario import Scenario
from asyncsim.tasks import DataTask


def check_memory(scenario: Scenario) -> None:
    """Raises ``UserError`` where this machine has not the memory for the run's snapshots, or for one batch.

    A lower bound: parameters times snapshots (one for each worker that computes on a version of its own, the server's, and a
    gradient), and the inputs of one batch.
    """
    size = 8 if scenario.dtype == "float64" else 4
    parameters, batch = scenario.task.num_parameters(), scenario.task.batch
    together = Need.WAITS | Need.RECALLS
    apart = not (scenario.staged or scenario.bundle().needs & together)
    snapshots = 2 + (min(scenario.groups, scenario.run.updates or scenario.groups) if apart else 1)
    copies = f"{snapshots:,} copies of {parameters:,} parameters (snapshots and a gradient)"
    _fits("task.model", parameters * snapshots * size, copies)
    if isinstance(scenario.task, DataTask):
        numbers = math.prod(scenario.task.signature.inputs)
        _fits("task.batch", batch * numbers * size, f"a batch of {batch:,} samples of {numbers:,} numbers")


def _fits(field: str, needed: int, what: str) -> None:
    there = _physical()
    if there is not None and needed > there:
        raise UserError(f"{field}: {what} need {needed / 1e9:,.1f} GB; this machine has {there / 1e9:,.1f} GB of memory")


def _physical() -> int | None:
    """Bytes of memory in this machine; None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
