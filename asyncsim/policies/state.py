"""The state of a part of a policy: what changes during a run, apart from the hyper-parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

from asyncsim.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


@dataclass(slots=True)
class State:
    """What one transform or step rule remembers from push to push. A part that remembers something derives a dataclass from
    this one, whose fields hold tensors, numbers, pushes, or lists, tuples, sets and dictionaries of them; a part without one
    uses this class itself.

    It is passed to the part and changed in place, and never hidden in the part. A checkpoint keeps it field by field.
    """


class Stateful(Protocol):
    """A part that makes a state."""

    def init(self, params: Tensor | None, num_workers: int) -> State: ...


def initial_state(part: Stateful, params: Tensor | None, num_workers: int) -> State:
    """The state of ``part`` at the start. Raises ``UserError`` if it is not a dataclass derived from ``State``."""
    state = part.init(params, num_workers)
    cls = type(state)
    if isinstance(state, State) and "__dataclass_fields__" in vars(cls) and not hasattr(state, "__dict__"):
        return state
    raise UserError(
        f"`init` of {type(part).__name__} returned a {cls.__name__}; so that a checkpoint keeps all that a part remembers, it is "
        "`@dataclass(slots=True)` of a class derived from State (from asyncsim.policies import State)"
    )


def entries(state: State) -> Iterator[tuple[str, object]]:
    """The names and values of the fields of a state, in their order."""
    return ((field.name, getattr(state, field.name)) for field in fields(state))


def state_class(name: str) -> type[State]:
    """The class of states of that name, ``module:qualified name``, among those that are defined already; nothing is imported.

    Raises ``ValueError`` if there is none.
    """
    found: type[State] | None = None
    left: list[type[State]] = [State]
    while left:
        cls = left.pop()
        if state_name(cls) == name and "__dataclass_fields__" in vars(cls):
            found = cls
        left.extend(reversed(cls.__subclasses__()))
    if found is None:
        raise ValueError(f"there is no state {name}")
    return found


def state_name(cls: type[State]) -> str:
    """The name by which a checkpoint knows a class of states."""
    return f"{cls.__module__}:{cls.__qualname__}"
