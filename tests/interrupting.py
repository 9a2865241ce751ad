"""Runs that end at a chosen arrival, as Ctrl-C or a death would end them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import asyncsim
from asyncsim.scenario import Scenario
from asyncsim.simulation.server import Server


def interrupt(scenario: Scenario, out: Path, after: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Simulate into the folder ``out`` until the server has received ``after`` pushes; the next one raises ``error`` instead."""
    arrive, seen = Server.receive, 0

    def receive(self: Server, *arguments: Any, **options: Any) -> None:
        nonlocal seen
        if self.task is not None:  # a look ahead, without numbers, comes to no arrival of the run
            if seen == after:
                raise error
            seen += 1
        arrive(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "receive", receive)
        with pytest.raises(error):
            asyncsim.simulate(scenario, out)
