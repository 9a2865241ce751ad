"""What a run needs around it: its device, its task, and Python as it suits a timeline."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asyncsim.ambient import seeded, sheltered
from asyncsim.errors import UserError
from asyncsim.memory import check_memory
from asyncsim.streams import Streams

if TYPE_CHECKING:
    import torch

    from asyncsim.scenario import Scenario
    from asyncsim.tasks.task import Task

COLLECT_AFTER = 50_000
"""New objects of a timeline between two looks for cyclic garbage."""


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: {name!r} is not available here: {str(error).splitlines()[0]}") from None
    return device


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Python looks for cyclic garbage less often: there is hardly any, and many workers are many objects to look through."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], COLLECT_AFTER) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextmanager
def prepared(scenario: Scenario) -> Iterator[Task]:
    """The task of a scenario, on its device, with PyTorch as the run needs it, and nothing in it that draws without a seed."""
    check_memory(scenario)
    with sheltered(scenario.device, scenario.threads):
        from asyncsim.tasks.probing import refuse_draws

        device = _device(scenario.device)
        with seeded(Streams(scenario.seed).integer("build")):
            task = scenario.task.build(scenario.seed, str(device), scenario.dtype, scenario.groups)
        refuse_draws(task, scenario.task.kind)
        yield task
