"""``asyncsim list --needs``: what the parts of methods have declared that they need or do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar, get_origin

from asyncsim.cli.layout import Column, show_table
from asyncsim.methods import Method
from asyncsim.needs import MEANING, Need
from asyncsim.policies import SGD
from asyncsim.registries import consistencies, exchanges, gossips, methods, optimizers, policies, programs
from asyncsim.registry import Registry, Spec

PARTS: dict[str, Registry[Any]] = {
    "policies": policies, "optimizers": optimizers, "consistencies": consistencies, "programs": programs, "exchanges": exchanges,
    "gossips": gossips,
}  # fmt: skip
S = TypeVar("S", bound=Spec)
WORKERS, STAGES = 4, 2


def needs() -> None:
    """Print the meaning of every property, then what methods and parts have declared at their default settings."""
    columns = [Column("", "left"), Column("", "left", prose=True)]
    show_table(columns, [(str(need.name).lower(), text) for need, text in MEANING.items()], "properties")
    for title, rows in (("methods", of_methods()), *((name, of_parts(registry)) for name, registry in PARTS.items())):
        print()
        show_table(columns, [(name, ", ".join(declared.names) or "nothing") for name, declared in rows], title)


def of_methods() -> Iterator[tuple[str, Need]]:
    """The needs of every method, run by ``WORKERS`` workers with SGD and momentum, and in ``STAGES`` stages if it is a
    pipeline."""
    for name, cls in methods:
        method = example(cls)
        stages = STAGES if cls.staged_parts is not Method.staged_parts else 1
        yield name, method.bundle(WORKERS, SGD(momentum=0.9), stages).needs


def of_parts(registry: Registry[Any]) -> Iterator[tuple[str, Need]]:
    """The needs of every plugin in a registry of parts."""
    for name, cls in registry:
        yield name, example(cls).needs


def example(cls: type[S]) -> S:
    """A plugin at its default settings; a setting without a default gets the smallest value that is allowed, one by worker that
    of worker 0 alone."""
    required: dict[str, Any] = {}
    for name, field in cls.model_fields.items():
        if field.is_required():
            least = (getattr(bound, "ge", None) for bound in field.metadata)
            value = next((value for value in least if value is not None), 1)
            required[name] = {0: value} if get_origin(field.annotation) is dict else value
    unchecked: Any = cls.model_construct  # of which pydantic's plugin says that it makes a `Spec`
    return unchecked(**required) if "file" in required else cls(**required)
