"""``asyncsim list --needs``: what the parts of methods have declared that they need or do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table

from asyncsim.cli.console import Console
from asyncsim.methods import Method
from asyncsim.needs import MEANING, Need
from asyncsim.policies import SGD
from asyncsim.registries import consistencies, gossips, methods, optimizers, policies, programs
from asyncsim.registry import Registry, Spec

PARTS: tuple[Registry, ...] = (policies, optimizers, consistencies, programs, gossips)
WORKERS, STAGES = 4, 2


def needs(_: Any = None) -> None:
    """Print the meaning of every property, then what methods and parts have declared at their default settings."""
    console = Console()
    meaning = Table(title="properties", title_justify="left", box=None, pad_edge=False, show_header=False)
    for need, text in MEANING.items():
        meaning.add_row(str(need.name).lower(), text)
    console.print(meaning, highlight=False, markup=False)
    for title, rows in (("methods", list(of_methods())), *((registry.what, list(of_parts(registry))) for registry in PARTS)):
        table = Table(title=f"\n{title}", title_justify="left", box=None, pad_edge=False, show_header=False)
        for name, declared in rows:
            table.add_row(name, ", ".join(declared.names) or "-")
        console.print(table, highlight=False, markup=False)


def of_methods() -> Iterator[tuple[str, Need]]:
    """Every method, as ``WORKERS`` workers with SGD and momentum run it; a pipeline in ``STAGES`` stages."""
    for name, cls in methods:
        method = example(cls)
        assert isinstance(method, Method)
        stages = STAGES if cls.staged_parts is not Method.staged_parts else 1
        yield name, method.bundle(WORKERS, SGD(momentum=0.9), stages).needs


def of_parts(registry: Registry) -> Iterator[tuple[str, Need]]:
    """Every plugin of a registry of parts."""
    for name, cls in registry:
        yield name, example(cls).needs


def example(cls: type[Spec]) -> Spec:
    """A plugin at its default settings; a setting without a default gets the smallest value that is allowed."""
    required = {}
    for name, field in cls.model_fields.items():
        if field.is_required():
            least = (getattr(bound, "ge", None) for bound in field.metadata)
            required[name] = next((value for value in least if value is not None), 1)
    return cls.model_construct(**required) if "file" in required else cls(**required)
