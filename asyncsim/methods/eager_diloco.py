"""Eager updates: local steps whose mean travels while the next are taken, and every worker's own part of it is taken at once::

    round t, worker i:  D_i(t) <- theta_i - (what `local_steps` SGD steps make of it);   launch the reduction of the mean D(t)
                        wait for D(t - 1)
                        one step of the outer optimiser of worker i, from theta_i, with
                            D_i(t) / N + (D(t - 1) - D_i(t - 1) / N)                 D(-1) = D_i(-1) = 0

Eager updates for DiLoCo, 2025 (arXiv 2502.12996). From the abstract; the form of the step is recalled (medium confidence).

Order: local steps, launch, wait, outer step, read. As built: the server steps with the means alone, w with D(t - 1), and the
policy ``eager`` adds what is each worker's own, theta_i - w, whose input is ``(D_i(t) - D_i(t - 1)) / N``. The steps of heavy
ball and of Nesterov are linear, so the sum is the step of the worker's own optimiser. Evaluated is w.
Ours: who has been down begins at w, and knows no D_i of before; outer weight decay is that of w, a worker's own part has
none. Workers take SGD steps (DiLoCo: AdamW).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from asyncsim.consistency import BSP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import SGD, Accumulate, State, StepRule, Transform
from asyncsim.policies.transform import policies

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(slots=True)
class Own(State):
    """By worker, of shape ``(P,)`` each: what it launched last; and of its own part of the parameters the velocity, and where it
    is, ``theta_i - w``."""

    last: dict[int, Tensor] = field(default_factory=dict)
    velocity: dict[int, Tensor] = field(default_factory=dict)
    apart: dict[int, Tensor] = field(default_factory=dict)


@policies.register("eager")
class Eager(Transform):
    """Hand each worker the parameters with its own part of the mean that is on its way in them (eager updates, 2025).
    ``momentum`` and ``nesterov`` are those of the step rule. ``O(P)`` memory for each worker."""

    needs: ClassVar[Need] = Need.VALUES | Need.LAUNCHES | Need.WORKER_VIEW
    momentum: float = Field(default=0.9, ge=0, lt=1)
    nesterov: bool = True

    def init(self, params: Tensor | None, num_workers: int) -> Own:
        return Own()

    def update(self, push: Push, state: Own, server: ServerView) -> Push | Verdict:
        return push

    def launched(self, push: Push, state: Own, server: ServerView) -> Push | None:
        worker, own = push.worker, push.gradient.clone()
        fresh = (own - state.last[worker] if worker in state.last else own) / server.members
        velocity = state.velocity[worker] * self.momentum + fresh if worker in state.velocity else fresh
        step = (fresh + velocity * self.momentum if self.nesterov else velocity) * server.lr
        state.apart[worker] = state.apart[worker] - step if worker in state.apart else -step
        state.last[worker], state.velocity[worker] = own, velocity
        return None

    def forget(self, worker: int, state: Own) -> None:
        for known in (state.last, state.velocity, state.apart):
            known.pop(worker, None)

    def view(self, params: Tensor, state: Own, server: ServerView, worker: int) -> Tensor:
        apart = state.apart.get(worker)
        return params if apart is None else params + apart


@methods.register("eager_diloco")
class EagerDiloco(LocalMethod):
    """Local steps whose mean travels while the next ones are taken, with each worker's own part of it at once (eager updates,
    arXiv 2502.12996). The optimizer is the outer one: ``sgd``, with ``nesterov`` in DiLoCo."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        if not isinstance(optimizer, SGD):
            raise ValueError(f"eager updates take the outer optimizer sgd, whose steps add up, not {optimizer.kind}")
        eager = Eager(momentum=optimizer.momentum, nesterov=optimizer.nesterov)
        program = self.local().model_copy(update={"overlap": True})
        return Bundle((Accumulate(members=True), eager), optimizer, BSP(lag=1), program)
