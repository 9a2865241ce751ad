"""The task of a run, built on its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from asyncsim.ambient import seeded, sheltered
from asyncsim.errors import UserError, first_line
from asyncsim.memory import check_memory
from asyncsim.scenario import Scenario
from asyncsim.streams import Streams

if TYPE_CHECKING:
    import torch

    from asyncsim.tasks.task import Task


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


def _device(name: str) -> torch.device:
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device: {name!r} is not available here: {first_line(error)}") from None
    return device
