"""What is saved of a policy's state, and the pushes that it holds."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, is_dataclass, replace
from typing import Any

from asyncsim.messages import Push


def kept(state: Any) -> Any:
    """A deep copy of a policy's state, without the pushes in it; a field that holds one becomes None."""
    if isinstance(state, Push):
        return None
    if is_dataclass(state):
        whole: Any = state
        return replace(whole, **{field.name: kept(getattr(state, field.name)) for field in fields(state)})
    if isinstance(state, dict):
        return {key: kept(value) for key, value in state.items() if not isinstance(value, Push)}
    if type(state) in (list, tuple, set):
        return type(state)(kept(value) for value in state if not isinstance(value, Push))
    return state.clone() if hasattr(state, "clone") else state.copy() if hasattr(state, "copy") else state


def discard(state: Any) -> int:
    """Cancel the work of all pushes in a policy's state. Returns how many there are."""
    if isinstance(state, Push):
        if state.payload is not None:
            state.payload.discard()
        return 1
    return sum(map(discard, contents(state)))


def pushes_in(state: Any) -> list[Push]:
    """The pushes in a policy's state, in the order in which it holds them."""
    return [state] if isinstance(state, Push) else [push for part in contents(state) for push in pushes_in(part)]


def contents(state: Any) -> Collection[Any]:
    """What a state, or a container in one, holds."""
    if is_dataclass(state):
        return [getattr(state, field.name) for field in fields(state)]
    if isinstance(state, dict):
        return state.values()
    return state if isinstance(state, list | tuple | set) else ()
