"""What methods share whose workers take steps of their own and push the difference::

    x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x

``factor`` is the schedule's at the read. Each step takes one batch and one compute time.
"""

from __future__ import annotations

from pydantic import Field

from asyncsim.methods.method import Method
from asyncsim.simulation.programs import LocalSGD


class LocalMethod(Method):
    """Workers take ``local_steps`` SGD steps of their own at ``local_lr`` (the schedule multiplies it) and push the difference.

    The scenario's optimiser is the server's; the plain algorithm is ``{kind: sgd, lr: 1}`` without momentum.
    """

    local_steps: int = Field(default=4, ge=1)
    local_lr: float = Field(default=0.05, ge=0)
    local_momentum: float = Field(default=0.0, ge=0, lt=1)

    def local(self) -> LocalSGD:
        return LocalSGD(steps=self.local_steps, lr=self.local_lr, momentum=self.local_momentum)
