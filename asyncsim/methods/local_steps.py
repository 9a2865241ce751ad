"""What methods share whose workers take steps of their own and push the difference::

    x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x

``factor`` is the schedule's at the read. Each step takes one batch and one compute time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.methods.method import Method
from asyncsim.simulation.programs import LocalSGD

if TYPE_CHECKING:
    from torch import Tensor


class LocalMethod(Method):
    """Workers take ``local_steps`` SGD steps of their own at ``local_lr`` (the schedule multiplies it) and push the difference.

    The scenario's optimiser is the server's; the plain algorithm is ``{kind: sgd, lr: 1}`` without momentum.
    """

    local_steps: int = Field(default=4, ge=1)
    local_lr: float = Field(default=0.05, ge=0)
    local_momentum: float = Field(default=0.0, ge=0, lt=1)

    def local(self) -> LocalSGD:
        return LocalSGD(steps=self.local_steps, lr=self.local_lr, momentum=self.local_momentum)


@dataclass(frozen=True)
class OwnModel:
    """What kernels share whose worker keeps a model of its own, which is pulled by the share ``pull`` towards what it has read in
    every round and takes ``steps`` steps. Carried on are the model and the velocity, shape ``(2, P)``."""

    pull: float
    steps: int
    lr: float
    momentum: float
    carries: ClassVar[bool] = True

    def held(self, params: Tensor, carry: Tensor | None) -> tuple[Tensor, Tensor]:
        """The worker's model and velocity; in its first round it begins with what it has read."""
        return (params, params.new_zeros(params.shape)) if carry is None else (carry[0], carry[1])

    def left(self, model: Tensor, velocity: Tensor) -> Tensor:
        """What is carried on."""
        carried = model.new_empty(2, len(model))
        carried[0], carried[1] = model, velocity
        return carried
