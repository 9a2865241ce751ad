"""Gradient dropping: a worker sends the largest entries of its gradient, and adds what it did not send to its next one::

    a_i <- a_i + g                                     i: the worker; a_i begins at zero
    send a_i where |a_i| is among the largest (or at least the threshold);   a_i <- 0 there
    server:  theta <- theta - lr * d(what was sent)    d: the scenario's optimiser

A. F. Aji, K. Heafield 2017, *Sparse Communication for Distributed Gradient Descent* (arXiv 1704.05021). The rule is as we
remember the paper, and as the baseline of the public code of DGS has it (github.com/yanring/GradientServer).

Order: the gradient is added to what was left, the largest entries are chosen from the sum, and what is sent is left no more.
Differs from the code: it multiplies by the learning rate before it adds, here the server does so when it applies (the same for a
constant rate); its threshold is the k-th largest with a strict comparison, so one entry fewer is sent, and none of a layer with
k = 1; here exactly k are. The paper estimates the threshold from a sample of the entries; here it is exact.
What a worker keeps is lost when it goes down. Momentum and weight decay are the server's, on what has arrived.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from asyncsim.consistency import ASP
from asyncsim.messages import Push, ServerView, Verdict
from asyncsim.methods.method import Bundle, Method, methods
from asyncsim.needs import Need
from asyncsim.policies import State, StepRule
from asyncsim.policies.sparse import Sparse, Sparsity
from asyncsim.policies.transform import Shapes, policies
from asyncsim.simulation.programs import Replica

if TYPE_CHECKING:
    from torch import Tensor


class DroppingSettings(Sparsity):
    """With ``threshold`` every entry of at least that size is sent, however many these are, and ``ratio`` is ignored."""

    threshold: float | None = Field(default=None, ge=0)


@dataclass(slots=True)
class Residual(State):
    """What a worker has not sent yet, shape ``(P,)``; None while that is nothing."""

    residual: Tensor | None = None


@policies.register("gradient_dropping")
class GradientDropping(DroppingSettings, Sparse):
    """Send the largest entries of ``residual + g``, and keep the others as the residual (Aji and Heafield 2017).

    With a ``threshold`` the size of a push depends on its numbers, so the method cannot be planned.
    """

    @property
    def needs(self) -> Need:  # type: ignore[override]  # it follows from the settings
        return Need.VALUES | Need.WORKER_STATE | (Need.NOTHING if self.threshold is None else Need.SIZES)

    def init(self, params: Tensor | None, num_workers: int) -> Residual:
        return Residual()

    def update(self, push: Push, state: Residual, server: ServerView) -> Push | Verdict:
        if self.threshold is None and self.ratio == 1:
            return push
        whole = push.gradient if state.residual is None else state.residual + push.gradient
        chosen = self.largest(whole, server) if self.threshold is None else ~(whole.abs() < self.threshold)  # NaN is sent
        state.residual = whole.masked_fill(chosen, 0)
        push.replaced = whole.masked_fill(~chosen, 0)
        return push

    def layered_bytes(self, nbytes: float, shapes: Shapes) -> float:
        return nbytes if self.threshold is not None else super().layered_bytes(nbytes, shapes)


@methods.register("gradient_dropping")
class GradientDroppingMethod(DroppingSettings, Method):
    """Gradient dropping, Aji and Heafield 2017: sparse pushes, and what was not sent is added to the next gradient."""

    def parts(self, num_workers: int, optimizer: StepRule) -> Bundle:
        return Bundle((), optimizer, ASP(), Replica(), uplink=(self.part(GradientDropping),))
