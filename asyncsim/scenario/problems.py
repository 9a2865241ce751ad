"""Validation errors as people want them: file, line, field, value, and what is allowed."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import ValidationError

from asyncsim.errors import UserError
from asyncsim.scenario.document import Document, Location

MOST = 20


class ScenarioError(UserError):
    """A scenario that cannot be run. ``problems`` holds one line each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        shown = problems[:MOST] + ([f"... and {len(problems) - MOST} more"] if len(problems) > MOST else [])
        super().__init__("\n".join(shown))


def scenario_error(error: ValidationError, document: Document, overridden: Collection[str] = ()) -> ScenarioError:
    """Every problem of ``error`` as one line: ``file:line: field: what is wrong, the value``."""
    return ScenarioError([_line(problem, document, overridden) for problem in error.errors(include_url=False)])


def _line(problem: Any, document: Document, overridden: Collection[str]) -> str:
    location: Location = problem["loc"]
    field = ".".join(str(part) for part in location)
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "must be")
    if problem["type"] == "missing":
        message = "is missing"
    elif isinstance(problem["input"], str | int | float) and repr(problem["input"]) not in message:
        message = f"{message} (it is {problem['input']!r})"
    source = next((f"--set {path}" for path in overridden if field.startswith(path) or path.startswith(field + ".")), None)
    return f"{source or document.where(location)}: {f'{field}: ' if field else ''}{message}"
