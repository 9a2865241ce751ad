"""Co-running: phones train in slots in which that is worth its energy, best while their users run applications anyway::

    in every slot a phone that does nothing begins a task, or does not: the rule of `asyncsim.consistency.slots`
    worker:  x <- s;   local_steps times:  x <- x - local_lr * factor * g(x);   push  D = s - x
    server:  theta <- x;    v <- beta * v + (1 - beta) * (theta - x) / lr       lr * |v|: what a gap is predicted by

C. Wang, H. Wu et al., ICDCS 2022 (read in full), and in part its extension of 2024, a reconstruction of ours: see there.

Order: an arriving model replaces the server's (`fedasync` with the rate 1); then ``v`` is updated and noted, if gaps are bounded.
Not told, and ours: whose updates make ``v`` (the server's, of all).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from asyncsim.consistency.slots import CoRunningSlots, MomentumSettings, SlotSettings
from asyncsim.methods.fedasync import Mixing
from asyncsim.methods.local_steps import LocalMethod
from asyncsim.methods.method import Bundle, methods
from asyncsim.needs import Need
from asyncsim.policies import Push, ServerView, State, StepRule, Transform, Velocity
from asyncsim.policies.step_rule import divided
from asyncsim.policies.transform import policies

if TYPE_CHECKING:
    from torch import Tensor


@policies.register("momentum_drift")
class MomentumDrift(MomentumSettings, Transform):
    """Notes ``drift = lr * |v|`` with ``v <- beta * v + (1 - beta) * g``, of what the step rule is given, and changes nothing."""

    needs: ClassVar[Need] = Need.VALUES
    notes: ClassVar[tuple[str, ...]] = ("drift",)

    def init(self, params: Tensor | None, num_workers: int) -> State:
        return Velocity()

    def update(self, push: Push, state: Velocity, server: ServerView) -> Push:
        step = divided(push)
        before = step.new_zeros(step.shape) if state.velocity is None else state.velocity
        state.velocity = self.beta * before + (1 - self.beta) * step
        push.note("drift", server.lr * state.velocity.norm())
        return push


@methods.register("co_running")
class CoRunning(SlotSettings, LocalMethod):
    """Application co-running, Wang, Wu et al. 2022: phones train in slots in which that is worth its energy, and what arrives
    replaces the model. The bound of what the user notices is our reconstruction of the extension of 2024."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        drift = () if self.gap_bound is None else (self.part(MomentumDrift),)
        return Bundle((Mixing(rate=1.0, power=0.0), *drift), optimizer, self.part(CoRunningSlots), self.local())
