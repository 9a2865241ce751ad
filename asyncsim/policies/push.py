"""The messages between a worker and the server, and what a policy may see of the server."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

from asyncsim.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from asyncsim.engine.futures import Future


class Snapshot(NamedTuple):
    """The parameters that a worker was handed. They are never written to; workers that read the same version share one tensor."""

    params: Tensor | None  # (P,); None when only the timeline is simulated
    version: int  # updates the server had applied
    time: int  # virtual nanoseconds of the read
    lr_factor: float  # of the schedule, for programs that take steps of their own


class Verdict(enum.Enum):
    """The reason why a push did not become an update by itself."""

    BUFFERED = "buffered"
    DROPPED = "dropped"


@dataclass(slots=True)
class Push:
    """A delivered result on its way through the chain of transforms.

    ``penalty`` divides the whole update direction that this push causes (gradient and weight decay alike): a float, or a
    tensor of shape ``(P,)``. A float penalty does not force the gradient, so work that is dropped later is never computed.
    """

    worker: int
    step: int
    snapshot: Snapshot
    staleness: int  # versions between the snapshot's read and the arrival
    time: int  # virtual nanoseconds of the arrival
    samples: int
    payload: Future | None  # None when only the timeline is simulated
    penalty: float | Tensor = 1.0
    replaced: Tensor | None = None  # a gradient that a transform put in place of the computed one
    noted: dict[str, float | Tensor] | None = None  # numbers for the records, by name; None where no part notes any

    @property
    def gradient(self) -> Tensor:
        """The gradient (or pseudo-gradient), shape ``(P,)``. It is computed now, if that has not been done."""
        if self.replaced is not None:
            return self.replaced
        if self.payload is None:
            raise UserError(
                "a policy asked for a gradient where none is computed (in a plan, or after divergence); a part that looks at "
                "gradients, parameters or losses declares it: `needs = Need.VALUES` (from asyncsim.needs import Need)"
            )
        return self.payload.result().gradient

    def take(self) -> Tensor:
        """The gradient, for a caller that may overwrite it; nobody reads it afterwards."""
        return self.gradient

    def note(self, name: str, value: float | Tensor) -> None:
        """Record a number of this push, or a tensor with one element, in the column ``name`` of the updates table.

        The part must have declared the name in its ``notes``. For a push of which nothing was noted, the column has NaN.
        """
        if self.noted is None or name not in self.noted:
            declare = f"give its class `notes = ({name!r},)`"
            raise UserError(f"a policy noted {name!r}, which no part of the method has declared; {declare}")
        self.noted[name] = value if isinstance(value, float | int) else value.detach().clone()

    def penalise(self, factor: float | Tensor) -> None:
        """Divide the update by ``factor``, in addition to the penalties it has already."""
        if isinstance(self.penalty, float) and self.penalty == 1.0:
            self.penalty = factor
        else:
            self.penalty = self.penalty * factor


class ServerView(Protocol):
    """What a transform or step rule may read of the server at an arrival (before the update)."""

    params: Tensor  # (P,)
    version: int
    num_workers: int
    members: int  # workers that have not stopped or left; one that has crashed is a member
    departed: frozenset[int]  # those that have stopped, or left until they join again
    lr: float  # learning rate of this arrival (schedule included)
    lr_max: float  # largest learning rate so far
    layers: tuple[slice, ...]  # one slice of the flat vector per parameter tensor
    now: int  # virtual nanoseconds of what happens
    stage: int  # of the pipeline whose parameters these are, from 0; 0 for a whole model
    num_stages: int

    def view(self, worker: int) -> Tensor:
        """What ``worker`` would be handed if it read now, shape ``(P,)``: the parameters, or a look-ahead of them."""
        ...

    def velocity(self) -> Tensor | None:
        """The momentum buffer as the last step left it, shape ``(P,)``, zeros before the first; None without momentum.

        Not to be written to. Not every step rule has one.
        """
        ...

    def data_weight(self, worker: int) -> float:
        """Training samples of the worker's own shard over the mean of all workers'; 1 where nobody has a shard of its own."""
        ...

    def moved(self, snapshot: Snapshot) -> Tensor:
        """``params - snapshot``, shape ``(P,)``, for the caller to overwrite."""
        ...
