"""Runs that save themselves after any one event, and die after any later one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncsim
from asyncsim.checkpoint.cadence import Cadence
from asyncsim.checkpoint.keeper import Keeper
from asyncsim.records import Result
from asyncsim.run import execution
from asyncsim.scenario import Scenario


class Killed(BaseException):
    """The process dies here."""


@contextmanager
def replaced(owner: Any, **attributes: Any) -> Iterator[None]:
    """``owner`` with other attributes for a while."""
    before = {name: owner.__dict__[name] for name in attributes}
    for name, value in attributes.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


def counted(scenario: Scenario, out: Path) -> tuple[Result | None, int, str]:
    """The run in a folder, from its start to its end, its events, and how it was refused."""
    seen: list[Any] = []

    def due(keeper: Keeper) -> bool:
        if not seen:
            seen.append(keeper.sim)
        return False

    with replaced(Keeper, due=due):
        try:
            result, refusal = asyncsim.simulate(_saving(scenario), out, fresh=True), ""
        except asyncsim.UserError as error:
            result, refusal = None, str(error)
    return result, seen[0].steps if seen else 0, refusal


def interrupted(scenario: Scenario, out: Path, saved: int, died: int) -> bool:
    """Run until the event ``died``, with one checkpoint after the event ``saved``; whether there is one."""
    made = []

    def due(keeper: Keeper) -> bool:
        return keeper.sim.steps in (saved, died)

    def turn(keeper: Keeper, now: int) -> None:
        if keeper.sim.steps == saved and not made and not keeper.sim.over:
            keeper.save()
            made.append(saved)
        if keeper.sim.steps >= died:
            raise Killed

    with replaced(Keeper, due=due, turn=turn), replaced(execution, _last_words=lambda *_: None):
        try:
            asyncsim.simulate(_saving(scenario), out, fresh=True)
        except Killed:
            return bool(made)
    return False


def _saving(scenario: Scenario) -> Scenario:
    return scenario.model_copy(update={"checkpoint": Cadence(minutes=1000.0)})
